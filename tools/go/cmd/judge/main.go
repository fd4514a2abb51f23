// The judge says whether a history of concurrent clients is linearisable: judge [-limit DURATION] FILE.
//
// FILE holds one operation a line (see history.go). Exit codes: 0 it is, 1 it is not, 2 the history or the command makes no
// sense, 3 it could not be decided within the limit. What was found is told on standard output, mistakes on standard error.
package main

import (
	"flag"
	"fmt"
	"os"
	"time"
)

const (
	linearisable    = 0
	notLinearisable = 1
	senseless       = 2
	undecided       = 3
)

func main() {
	limit := flag.Duration("limit", 5*time.Minute, "how long to search before giving up, for each record")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "judge [-limit DURATION] FILE: whether the history in FILE is linearisable")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 1 || *limit <= 0 {
		flag.Usage()
		os.Exit(senseless)
	}
	os.Exit(run(flag.Arg(0), *limit))
}

func run(path string, limit time.Duration) int {
	file, err := os.Open(path)
	if err != nil {
		fmt.Fprintln(os.Stderr, "judge:", err)
		return senseless
	}
	defer file.Close()
	records, err := readHistory(file)
	if err != nil {
		fmt.Fprintf(os.Stderr, "judge: %s: %s\n", path, err)
		return senseless
	}
	return judge(os.Stdout, records, limit)
}
