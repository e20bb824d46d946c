package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/fnv"
	"sort"

	bolt "go.etcd.io/bbolt"
)

// bucket is what a bucket of the file should hold. The root bucket is one as well.
type bucket struct {
	sequence uint64
	pairs    map[string][]byte
	buckets  map[string]*bucket
}

func newBucket() *bucket {
	return &bucket{pairs: map[string][]byte{}, buckets: map[string]*bucket{}}
}

// keys returns the keys of all pairs in order, so that one seed always means the same changes.
func (m *bucket) keys() []string {
	keys := make([]string, 0, len(m.pairs))
	for key := range m.pairs {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	return keys
}

func (m *bucket) names() []string {
	names := make([]string, 0, len(m.buckets))
	for name := range m.buckets {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

func (m *bucket) has(name string) bool {
	return m.pairs[name] != nil || m.buckets[name] != nil
}

// clone copies the buckets; values are shared, since they are replaced and never written into.
func (m *bucket) clone() *bucket {
	copied := &bucket{
		sequence: m.sequence,
		pairs:    make(map[string][]byte, len(m.pairs)),
		buckets:  make(map[string]*bucket, len(m.buckets)),
	}
	for key, value := range m.pairs {
		copied.pairs[key] = value
	}
	for name, inner := range m.buckets {
		copied.buckets[name] = inner.clone()
	}
	return copied
}

// bytes is the length of all keys and values.
func (m *bucket) bytes() int {
	total := 0
	for key, value := range m.pairs {
		total += len(key) + len(value)
	}
	for name, inner := range m.buckets {
		total += len(name) + inner.bytes()
	}
	return total
}

// place is a bucket of the model with the names that lead to it; none for the root bucket.
type place struct {
	path []string
	m    *bucket
}

// places lists the bucket and all buckets below it, outer ones first.
func (m *bucket) places(path []string) []place {
	all := []place{{append([]string(nil), path...), m}}
	for _, name := range m.names() {
		all = append(all, m.buckets[name].places(append(path, name))...)
	}
	return all
}

// find returns the bucket of the file at path; the root bucket's own for the empty one.
func find(tx *bolt.Tx, path []string) *bolt.Bucket {
	b := tx.Cursor().Bucket()
	for _, name := range path {
		if b = b.Bucket([]byte(name)); b == nil {
			return nil
		}
	}
	return b
}

// sight is what a file was seen to hold. The digest is FNV-1a over all pairs and buckets in order.
type sight struct {
	buckets, keys int
	digest        uint64
	hash          hash.Hash64
}

func (s *sight) word(tag byte, text []byte) {
	var head [5]byte
	head[0] = tag
	binary.BigEndian.PutUint32(head[1:], uint32(len(text)))
	s.hash.Write(head[:])
	s.hash.Write(text)
}

// look reads everything bbolt finds in a file into a model.
func look(tx *bolt.Tx) (*bucket, sight, error) {
	seen := sight{hash: fnv.New64a()}
	m, err := seen.bucket(tx.Cursor().Bucket(), nil)
	seen.digest = seen.hash.Sum64()
	return m, seen, err
}

func (s *sight) bucket(b *bolt.Bucket, path []string) (*bucket, error) {
	m := newBucket()
	m.sequence = b.Sequence()
	cursor := b.Cursor()
	for k, v := cursor.First(); k != nil; k, v = cursor.Next() {
		key := string(k)
		if m.has(key) {
			return m, fmt.Errorf("bucket %q: key %q stands there twice", path, key)
		}
		if v != nil {
			s.keys++
			s.word('k', k)
			s.word('v', v)
			m.pairs[key] = append([]byte{}, v...)
			continue
		}
		inner := b.Bucket(k)
		if inner == nil {
			return m, fmt.Errorf("bucket %q: bucket %q is listed and not found", path, key)
		}
		s.buckets++
		s.word('b', k)
		var sequence [8]byte
		binary.BigEndian.PutUint64(sequence[:], inner.Sequence())
		s.word('s', sequence[:])
		below, err := s.bucket(inner, append(path, key))
		if err != nil {
			return m, err
		}
		s.word('e', nil)
		m.buckets[key] = below
	}
	return m, nil
}

// compare holds a bucket of the file against the model: every pair in order by cursor, then each by a search from
// the root, since a wrong branch key shows only there.
func compare(b *bolt.Bucket, m *bucket, path []string) error {
	if b.Sequence() != m.sequence {
		return fmt.Errorf("bucket %q: sequence is %d, should be %d", path, b.Sequence(), m.sequence)
	}
	var last []byte
	pairs, buckets := 0, 0
	cursor := b.Cursor()
	for k, v := cursor.First(); k != nil; k, v = cursor.Next() {
		if last != nil && bytes.Compare(last, k) >= 0 {
			return fmt.Errorf("bucket %q: key %q comes after %q", path, k, last)
		}
		last = append(last[:0], k...)
		key := string(k)
		if v == nil {
			buckets++
			inner, below := b.Bucket(k), m.buckets[key]
			if inner == nil || below == nil {
				return fmt.Errorf("bucket %q: bucket %q: in the file %t, in the model %t", path, key, inner != nil, below != nil)
			}
			if err := compare(inner, below, append(path, key)); err != nil {
				return err
			}
			continue
		}
		pairs++
		want := m.pairs[key]
		if want == nil {
			return fmt.Errorf("bucket %q: key %q should not be there", path, key)
		}
		if !bytes.Equal(v, want) {
			return fmt.Errorf("bucket %q: key %q: the value differs: %d bytes, should be %d", path, key, len(v), len(want))
		}
	}
	if pairs != len(m.pairs) || buckets != len(m.buckets) {
		return fmt.Errorf("bucket %q: %d keys and %d buckets, should be %d and %d",
			path, pairs, buckets, len(m.pairs), len(m.buckets))
	}
	for _, key := range m.keys() {
		if !bytes.Equal(b.Get([]byte(key)), m.pairs[key]) {
			return fmt.Errorf("bucket %q: key %q is listed and not found", path, key)
		}
	}
	return nil
}

// inspect runs bbolt's own check over the whole file, then compares it with the model.
func inspect(db *bolt.DB, m *bucket) error {
	return db.View(func(tx *bolt.Tx) error {
		if err := consistent(tx); err != nil {
			return err
		}
		return compare(tx.Cursor().Bucket(), m, nil)
	})
}

// consistent returns the first few complaints of bbolt's check.
func consistent(tx *bolt.Tx) error {
	text, count := "", 0
	for err := range tx.Check() {
		if count++; count <= 3 {
			text += "; " + err.Error()
		}
	}
	if count == 0 {
		return nil
	}
	return errors.New(fmt.Sprintf("bbolt's check has %d complaints", count) + text)
}
