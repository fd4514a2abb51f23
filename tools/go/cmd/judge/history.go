package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"sort"
	"strings"
)

// An operation is one call of one client on one record, a line of JSON.
//
// Times are nanoseconds of one clock that never goes back. A call whose answer was lost has the outcome "unknown" and no
// return: it may take effect at any time after its call, or never.
type operation struct {
	Client int    `json:"client"`
	Record string `json:"record"`
	Op     string `json:"op"` // get, put or delete
	// The condition of a put or a delete, one at most.
	IfAbsent bool   `json:"if_absent"`
	IfEtag   string `json:"if_etag"`
	IfFamily string `json:"if_family"`
	// What a put belongs to: others may, too.
	Family string `json:"family"`
	// What a put writes (no two puts of a record write the same, unless refused), or what a get found.
	Value   string `json:"value"`
	Outcome string `json:"outcome"` // ok, refused (the condition did not hold) or unknown
	// Of an answered put: what it gave the value. Of a get or a refusal: what is there now; empty when nothing is.
	Etag string `json:"etag"`
	// Of an answered delete: whether something was there.
	Removed bool `json:"removed"`
	// The answer says no more than whether the condition held: not what a get found, what a refusal met, or whether a
	// delete found something. A get of this kind has the condition if_etag.
	Untold bool `json:"untold"`
	// Of an answered, untold delete: not even that. Its condition does not hold afterwards.
	Either bool  `json:"either"`
	Call   int64 `json:"call"`
	Return int64 `json:"return"`
}

func (o operation) conditional() bool { return o.IfAbsent || o.IfEtag != "" || o.IfFamily != "" }

// A record's history: its operations in the order of their calls, and what they tell of etags.
type record struct {
	name       string
	operations []operation
	etags      map[string]string // value -> its etag, for those that any answer tells
	values     map[string]string // etag -> its value
	puts       map[string]bool   // the values that were put
	twice      []string          // complaints: an etag that two values had
}

// readHistory reads and checks a history; the records are sorted by name.
func readHistory(from io.Reader) ([]*record, error) {
	records := map[string]*record{}
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 1<<20)
	for number := 1; lines.Scan(); number++ {
		one, err := parse(lines.Text())
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		of, known := records[one.Record]
		if !known {
			of = &record{name: one.Record, etags: map[string]string{}, values: map[string]string{}, puts: map[string]bool{}}
			records[one.Record] = of
		}
		if one.Op == "put" && one.Outcome != "refused" {
			if of.puts[one.Value] {
				return nil, fmt.Errorf("line %d: another put of record %q writes %q, too; each value is written once", number, one.Record, one.Value)
			}
			of.puts[one.Value] = true
		}
		of.operations = append(of.operations, one)
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(records) == 0 {
		return nil, errors.New("holds no operation")
	}
	sorted := make([]*record, 0, len(records))
	for _, of := range records {
		sort.SliceStable(of.operations, func(i, j int) bool { return of.operations[i].Call < of.operations[j].Call })
		if err := of.learn(); err != nil {
			return nil, fmt.Errorf("record %q: %w", of.name, err)
		}
		sorted = append(sorted, of)
	}
	sort.Slice(sorted, func(i, j int) bool { return sorted[i].name < sorted[j].name })
	return sorted, nil
}

func parse(line string) (operation, error) {
	var one operation
	decoder := json.NewDecoder(strings.NewReader(line))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&one); err != nil {
		return one, err
	}
	if _, err := decoder.Token(); err != io.EOF {
		return one, errors.New("more than one operation on a line")
	}
	return one, one.check()
}

// check completes the operation: what was not answered returns after everything else.
func (o *operation) check() error {
	writes := o.Op == "put" || o.Op == "delete"
	switch {
	case o.Record == "":
		return errors.New("record is empty")
	case !writes && o.Op != "get":
		return fmt.Errorf("op is %q; get, put and delete are allowed", o.Op)
	case o.Outcome != "ok" && o.Outcome != "refused" && o.Outcome != "unknown":
		return fmt.Errorf("outcome is %q; ok, refused and unknown are allowed", o.Outcome)
	case !writes && o.Untold && (o.Outcome == "unknown" || o.IfEtag == "" || o.Value != ""):
		return errors.New("a get that is untold has if_etag, no value, and the outcome ok or refused")
	case !writes && !o.Untold && (o.Outcome != "ok" || o.conditional()):
		return errors.New("a get has the outcome ok and no condition; one without an answer tells nothing and is left out")
	case o.Untold && (o.Removed || o.Etag != "" && o.Outcome != "ok"):
		return errors.New("untold, and yet it tells what was there")
	case o.Either && (o.Op != "delete" || !o.Untold || o.Outcome != "ok"):
		return errors.New("only an untold delete with the outcome ok is one of which nothing is told")
	case o.IfAbsent && o.IfEtag != "" || o.IfFamily != "" && (o.IfAbsent || o.IfEtag != ""):
		return errors.New("if_absent, if_etag and if_family exclude each other")
	case o.Family != "" && o.Op != "put":
		return errors.New("only what a put writes has a family")
	case o.Outcome == "refused" && !o.conditional():
		return errors.New("refused without a condition")
	case o.Op == "put" && o.Value == "":
		return errors.New("a put without a value")
	case o.Op == "put" && o.Outcome == "ok" && o.Etag == "":
		return errors.New("an answered put without an etag")
	case o.Op == "get" && (o.Value == "") != (o.Etag == ""):
		return errors.New("a get has both value and etag, or neither")
	case o.Outcome == "unknown" && o.Return != 0:
		return errors.New("an unknown outcome with a return")
	case o.Outcome != "unknown" && o.Return < o.Call:
		return errors.New("return is before call")
	}
	if o.Outcome == "unknown" {
		o.Return = math.MaxInt64
	}
	return nil
}

// learn gathers which etag belongs to which value. A put whose answer was lost has the one that a reader saw with it.
func (r *record) learn() error {
	for _, one := range r.operations {
		if one.Outcome == "ok" && one.Op == "put" {
			r.pair(one.Value, one.Etag)
		}
	}
	for _, one := range r.operations {
		if one.Op == "get" && one.Etag != "" {
			r.pair(one.Value, one.Etag)
		}
	}
	for _, one := range r.operations {
		if _, seen := r.values[one.IfEtag]; one.IfEtag != "" && !seen {
			return fmt.Errorf("if_etag %q was told by no put and no get", one.IfEtag)
		}
	}
	return nil
}

func (r *record) pair(value, etag string) {
	if other, taken := r.values[etag]; taken && other != value {
		r.twice = append(r.twice, fmt.Sprintf("the etag %s was given to %q and to %q", etag, other, value))
		return
	}
	r.values[etag] = value
	if _, known := r.etags[value]; !known {
		r.etags[value] = etag
	}
}
