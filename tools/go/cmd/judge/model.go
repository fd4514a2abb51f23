package main

import (
	"fmt"
	"strings"

	"github.com/anishathalye/porcupine"
)

// What a record holds: nothing, or a value with its etag and its family. The etag is empty as long as no answer has told it.
type register struct {
	there  bool
	value  string
	etag   string
	family string
}

// model is a register with conditions, after whatever the record's answers tell of etags.
//
// An operation with an unknown outcome is one step like every other: it takes effect where its condition holds. One that
// never took effect stands behind everything that was answered, where nobody sees it.
func (r *record) model() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return register{} },
		Step: func(state, input, _ any) (bool, any) { return r.step(state.(register), input.(operation)) },
	}
}

// step tells whether `one` may come next where the record holds `now`, and what it holds then.
func (r *record) step(now register, one operation) (bool, register) {
	holds := !one.conditional() || (one.IfAbsent && !now.there) || (one.IfEtag != "" && now.there && now.etag == one.IfEtag) ||
		(one.IfFamily != "" && now.there && now.family == one.IfFamily)
	if one.Op == "get" && one.Untold {
		return holds == (one.Outcome == "ok"), now
	}
	if one.Op == "get" {
		return now.there == (one.Etag != "") && now.value == one.Value && now.etag == one.Etag, now
	}
	switch one.Outcome {
	case "refused":
		if holds || one.Untold {
			return !holds, now
		}
		return r.sees(now, one.Etag)
	case "unknown":
		if !holds {
			return true, now
		}
	default:
		if !holds && one.Either {
			return true, now
		}
		if !holds || (one.Op == "delete" && !one.Untold && one.Removed != now.there) {
			return false, now
		}
	}
	if one.Op == "delete" {
		return true, register{}
	}
	etag := one.Etag
	if one.Outcome == "unknown" {
		etag = r.etags[one.Value]
	}
	return true, register{there: true, value: one.Value, etag: etag, family: one.Family}
}

// sees is a refusal that names `etag` as what is there: it may be the first to tell the etag of a put without an answer.
func (r *record) sees(now register, etag string) (bool, register) {
	if now.there && now.etag == "" && etag != "" {
		_, others := r.values[etag]
		return !others, register{there: true, value: now.value, etag: etag, family: now.family}
	}
	return now.etag == etag && now.there == (etag != ""), now
}

func (s register) String() string {
	if !s.there {
		return "nothing"
	}
	if s.etag == "" {
		return fmt.Sprintf("%q with an etag that no answer tells", s.value)
	}
	return fmt.Sprintf("%q with etag %s", s.value, s.etag)
}

func (o operation) String() string {
	var said strings.Builder
	fmt.Fprintf(&said, "client %d: %s", o.Client, o.Op)
	if o.Op == "put" {
		fmt.Fprintf(&said, " %q", o.Value)
	}
	if o.IfAbsent {
		said.WriteString(" if nothing is there")
	}
	if o.IfEtag != "" {
		fmt.Fprintf(&said, " if etag %s", o.IfEtag)
	}
	if o.IfFamily != "" {
		fmt.Fprintf(&said, " if family %s", o.IfFamily)
	}
	switch {
	case o.Outcome == "unknown":
		said.WriteString(" -> no answer")
	case o.Either:
		said.WriteString(" -> it is not there")
	case o.Untold && o.Outcome == "refused":
		said.WriteString(" -> refused")
	case o.Untold && o.Op != "put":
		said.WriteString(" -> it is so")
	case o.Outcome == "refused" && o.Etag == "":
		said.WriteString(" -> refused, nothing is there")
	case o.Outcome == "refused":
		fmt.Fprintf(&said, " -> refused, etag %s is there", o.Etag)
	case o.Op == "get" && o.Etag == "":
		said.WriteString(" -> nothing")
	case o.Op == "get":
		fmt.Fprintf(&said, " -> %q with etag %s", o.Value, o.Etag)
	case o.Op == "delete" && !o.Removed:
		said.WriteString(" -> nothing was there")
	case o.Op == "delete":
		said.WriteString(" -> removed")
	default:
		fmt.Fprintf(&said, " -> etag %s", o.Etag)
	}
	return said.String()
}
