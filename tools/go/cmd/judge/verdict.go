package main

import (
	"fmt"
	"io"
	"math"
	"time"

	"github.com/anishathalye/porcupine"
)

// How many operations an explanation shows of each kind.
const shown = 8

// judge searches an order for each record, tells what it found, and answers the exit code.
func judge(out io.Writer, records []*record, limit time.Duration) int {
	code, operations, unknown := linearisable, 0, 0
	for _, of := range records {
		operations += len(of.operations)
		for _, one := range of.operations {
			if one.Outcome == "unknown" {
				unknown++
			}
		}
		switch found := of.judge(out, limit); {
		case found == notLinearisable:
			code = notLinearisable
		case found == undecided && code == linearisable:
			code = undecided
		}
	}
	verdict := map[int]string{linearisable: "linearisable", notLinearisable: "NOT linearisable", undecided: "undecided"}[code]
	fmt.Fprintf(out, "%s: %d records, %d operations, %d of them without an answer\n", verdict, len(records), operations, unknown)
	return code
}

func (r *record) judge(out io.Writer, limit time.Duration) int {
	if len(r.twice) > 0 {
		for _, complaint := range r.twice {
			fmt.Fprintf(out, "record %q: %s\n", r.name, complaint)
		}
		return notLinearisable
	}
	history := make([]porcupine.Operation, len(r.operations))
	for index, one := range r.operations {
		history[index] = porcupine.Operation{ClientId: one.Client, Input: one, Call: one.Call, Return: one.Return}
	}
	result, info := porcupine.CheckOperationsVerbose(r.model(), history, limit)
	switch result {
	case porcupine.Ok:
		return linearisable
	case porcupine.Unknown:
		fmt.Fprintf(out, "record %q: no verdict on %d operations within %s\n", r.name, len(r.operations), limit)
		return undecided
	}
	r.explain(out, longest(info))
	return notLinearisable
}

// longest is the order that went furthest, as indexes of operations.
func longest(info porcupine.LinearizationInfo) []int {
	var best []int
	for _, partition := range info.PartialLinearizations() {
		for _, order := range partition {
			if len(order) > len(best) {
				best = order
			}
		}
	}
	return best
}

// explain tells how far the record's operations can be ordered, and which of the others had to come next.
func (r *record) explain(out io.Writer, order []int) {
	placed := make([]bool, len(r.operations))
	now := register{}
	for _, index := range order {
		placed[index] = true
		_, now = r.step(now, r.operations[index])
	}
	fmt.Fprintf(out, "record %q: %d of %d operations can be ordered; the last of them:\n", r.name, len(order), len(r.operations))
	for _, index := range order[max(0, len(order)-shown):] {
		fmt.Fprintf(out, "    %s\n", r.operations[index])
	}
	fmt.Fprintf(out, "  the record then holds %s, and none of these can come next:\n", now)
	end := int64(math.MaxInt64)
	for index, one := range r.operations {
		if !placed[index] {
			end = min(end, one.Return)
		}
	}
	told := 0
	for index, one := range r.operations {
		// Whatever was called later than an answer comes after it.
		if placed[index] || one.Call > end || one.Outcome == "unknown" {
			continue
		}
		if told++; told <= shown {
			fmt.Fprintf(out, "    %s\n", one)
		}
	}
	if told > shown {
		fmt.Fprintf(out, "    and %d more\n", told-shown)
	}
}
