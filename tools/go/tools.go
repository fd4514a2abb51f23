//go:build tools

// Package tools names the programs that this module pins; it is never built.
package tools

import (
	_ "github.com/bazelbuild/buildtools/buildifier"
)
