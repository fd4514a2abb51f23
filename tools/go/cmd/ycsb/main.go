// Ycsb runs a workload of YCSB's core, by go-ycsb, on a storage server.
//
//	ycsb -target host:port [-connections N] name=value…
//
// The properties are YCSB's own: recordcount, operationcount, threadcount, table (the namespace, which must be there),
// dotransactions=false to load. What was measured is printed as one JSON array, as go-ycsb prints it; the exit code is 1
// when a property or the server's address cannot be.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/magiconair/properties"
	"github.com/pingcap/go-ycsb/pkg/client"
	"github.com/pingcap/go-ycsb/pkg/measurement"
	_ "github.com/pingcap/go-ycsb/pkg/workload"
	"github.com/pingcap/go-ycsb/pkg/ycsb"
)

func run() error {
	target := flag.String("target", "", "the server, host:port")
	connections := flag.Int("connections", 8, "to the server, shared by the threads")
	flag.Parse()
	given := properties.NewProperties()
	given.Set("outputstyle", "json")
	given.Set("measurement.interval", "3600")
	for _, word := range flag.Args() {
		name, value, ok := strings.Cut(word, "=")
		if !ok {
			return fmt.Errorf("%q is not name=value", word)
		}
		given.Set(name, value)
	}
	if *target == "" || *connections < 1 {
		return fmt.Errorf("-target is host:port, -connections 1 or more")
	}
	measurement.InitMeasure(given)
	workload, err := ycsb.GetWorkloadCreator("core").Create(given)
	if err != nil {
		return err
	}
	defer workload.Close()
	db, err := open(*target, *connections)
	if err != nil {
		return err
	}
	defer db.Close()
	client.NewClient(given, workload, client.DbWrapper{DB: db}).Run(context.Background())
	measurement.Output()
	return nil
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "ycsb:", err)
		os.Exit(1)
	}
}
