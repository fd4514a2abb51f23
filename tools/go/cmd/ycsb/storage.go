package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

const (
	service  = "/wellspring.storage.v1.Storage/"
	deadline = 60 * time.Second
)

// raw is the codec of messages that are bytes already.
type raw struct{}

func (raw) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }

func (raw) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = append([]byte(nil), data...)
	return nil
}

func (raw) Name() string { return "proto" }

// storage is a YCSB database: a table is a namespace, a row a record, a field an item of it.
type storage struct {
	connections []*grpc.ClientConn
}

type connectionKey struct{}

func open(address string, connections int) (*storage, error) {
	db := &storage{}
	for range connections {
		connection, err := grpc.NewClient(
			address,
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{}), grpc.MaxCallRecvMsgSize(64<<20)),
		)
		if err != nil {
			return nil, err
		}
		db.connections = append(db.connections, connection)
	}
	return db, nil
}

func (db *storage) Close() error {
	for _, connection := range db.connections {
		if err := connection.Close(); err != nil {
			return err
		}
	}
	return nil
}

// InitThread gives each thread one of the connections.
func (db *storage) InitThread(ctx context.Context, id int, _ int) context.Context {
	return context.WithValue(ctx, connectionKey{}, db.connections[id%len(db.connections)])
}

func (db *storage) CleanupThread(context.Context) {}

func (db *storage) call(ctx context.Context, method string, request []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	var answer []byte
	err := ctx.Value(connectionKey{}).(*grpc.ClientConn).Invoke(ctx, service+method, &request, &answer)
	return answer, err
}

// Read gets a row, or some of its fields.
func (db *storage) Read(ctx context.Context, table, key string, fields []string) (map[string][]byte, error) {
	answer, err := db.call(ctx, "Get", getRequest(table, key, fields))
	if err != nil {
		return nil, err
	}
	row, err := itemsOf(answer, 1)
	if err == nil && len(row) == 0 {
		err = fmt.Errorf("there is no row %q", key)
	}
	return row, err
}

// Scan reads count rows from start on, or as many as there are.
func (db *storage) Scan(
	ctx context.Context, table, start string, count int, fields []string,
) ([]map[string][]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	connection := ctx.Value(connectionKey{}).(*grpc.ClientConn)
	stream, err := connection.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, service+"Scan")
	if err != nil {
		return nil, err
	}
	request := scanRequest(table, start, fields, count)
	if err = stream.SendMsg(&request); err != nil {
		return nil, err
	}
	if err = stream.CloseSend(); err != nil {
		return nil, err
	}
	var rows []map[string][]byte
	for len(rows) < count {
		var answer []byte
		if err = stream.RecvMsg(&answer); err == io.EOF {
			return rows, nil
		} else if err != nil {
			return nil, err
		}
		if rows, err = recordsOf(answer, rows); err != nil {
			return nil, err
		}
	}
	return rows[:count], nil
}

// Update puts fields of a row; the others stay.
func (db *storage) Update(ctx context.Context, table, key string, values map[string][]byte) error {
	request, err := mutateRequest(table, key, values)
	if err == nil {
		_, err = db.call(ctx, "Mutate", request)
	}
	return err
}

// Insert is an Update: a row is there when one of its fields is.
func (db *storage) Insert(ctx context.Context, table, key string, values map[string][]byte) error {
	return db.Update(ctx, table, key, values)
}

// Delete removes a row.
func (db *storage) Delete(ctx context.Context, table, key string) error {
	request, err := deleteRequest(table, key)
	if err == nil {
		_, err = db.call(ctx, "Delete", request)
	}
	return err
}
