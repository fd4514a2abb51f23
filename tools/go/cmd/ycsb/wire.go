package main

import (
	"crypto/rand"
	"errors"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// The messages of wellspring.storage.v1 that the binding needs, written and read field by field: storage.proto has the
// numbers. A generator of YCSB must not cost more than what it measures.

var errMalformed = errors.New("the server's answer is not a message of wellspring.storage.v1")

func appendBytes(b []byte, number protowire.Number, value []byte) []byte {
	b = protowire.AppendTag(b, number, protowire.BytesType)
	return protowire.AppendBytes(b, value)
}

func appendVarint(b []byte, number protowire.Number, value uint64) []byte {
	b = protowire.AppendTag(b, number, protowire.VarintType)
	return protowire.AppendVarint(b, value)
}

// newToken is a WriteToken: the time in microseconds, and 16 random bytes.
func newToken() ([]byte, error) {
	now := time.Now().UnixMicro()
	stamp := appendVarint(nil, 1, uint64(now/1e6))
	stamp = appendVarint(stamp, 2, uint64(now%1e6*1e3))
	nonce := make([]byte, 16)
	if _, err := rand.Read(nonce); err != nil {
		return nil, err
	}
	return appendBytes(appendBytes(nil, 1, stamp), 2, nonce), nil
}

// mutateRequest puts each of values as an item of the record.
func mutateRequest(namespace, record string, values map[string][]byte) ([]byte, error) {
	token, err := newToken()
	if err != nil {
		return nil, err
	}
	b := appendBytes(nil, 1, []byte(namespace))
	b = appendBytes(b, 2, []byte(record))
	b = appendBytes(b, 3, token)
	for key, value := range values {
		item := appendBytes(appendBytes(nil, 1, []byte(key)), 2, value)
		b = appendBytes(b, 4, appendBytes(nil, 1, item))
	}
	return b, nil
}

// deleteRequest deletes the record, if it is there.
func deleteRequest(namespace, record string) ([]byte, error) {
	token, err := newToken()
	if err != nil {
		return nil, err
	}
	b := appendBytes(nil, 1, []byte(namespace))
	b = appendBytes(b, 2, []byte(record))
	b = appendBytes(b, 3, selection(nil))
	b = appendBytes(b, 4, token)
	return appendVarint(b, 6, 1), nil
}

// selection names the items of fields, or all.
func selection(fields []string) []byte {
	if len(fields) == 0 {
		return appendVarint(nil, 3, 1)
	}
	var keys []byte
	for _, field := range fields {
		keys = appendBytes(keys, 1, []byte(field))
	}
	return appendBytes(nil, 1, keys)
}

func getRequest(namespace, record string, fields []string) []byte {
	b := appendBytes(nil, 1, []byte(namespace))
	b = appendBytes(b, 2, []byte(record))
	return appendBytes(b, 3, selection(fields))
}

// scanRequest asks for so many records from start on, in one answer if they fit.
func scanRequest(namespace, start string, fields []string, count int) []byte {
	b := appendBytes(nil, 1, []byte(namespace))
	b = appendBytes(b, 2, appendBytes(nil, 1, []byte(start)))
	b = appendBytes(b, 3, selection(fields))
	b = appendVarint(b, 6, uint64(count))
	return appendVarint(b, 7, uint64(count))
}

// each calls f for every length-delimited field of a message; others are passed over.
func each(message []byte, f func(number protowire.Number, value []byte) error) error {
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return errMalformed
		}
		message = message[n:]
		if kind != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(number, kind, message); n < 0 {
				return errMalformed
			}
			message = message[n:]
			continue
		}
		value, n := protowire.ConsumeBytes(message)
		if n < 0 {
			return errMalformed
		}
		message = message[n:]
		if err := f(number, value); err != nil {
			return err
		}
	}
	return nil
}

// addItem puts an Item's value under its key.
func addItem(message []byte, into map[string][]byte) error {
	var key string
	var found []byte
	err := each(message, func(number protowire.Number, value []byte) error {
		switch number {
		case 1:
			key = string(value)
		case 2:
			found = value
		}
		return nil
	})
	into[key] = found
	return err
}

// itemsOf reads the items of a GetResponse, or of a record of a ScanResponse: the same message but for the field.
func itemsOf(message []byte, field protowire.Number) (map[string][]byte, error) {
	items := make(map[string][]byte)
	err := each(message, func(number protowire.Number, value []byte) error {
		if number == field {
			return addItem(value, items)
		}
		return nil
	})
	return items, err
}

// recordsOf adds the records of a ScanResponse. Those of YCSB are far smaller than an answer: none is cut.
func recordsOf(message []byte, into []map[string][]byte) ([]map[string][]byte, error) {
	err := each(message, func(number protowire.Number, value []byte) error {
		if number != 1 {
			return nil
		}
		items, err := itemsOf(value, 2)
		into = append(into, items)
		return err
	})
	return into, err
}
