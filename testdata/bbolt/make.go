// Make writes the sound file that the damages of src/bbolt_damage.rs are done to, with the real bbolt library: a tree of
// three levels, values longer than a page, nested and inline buckets, an empty bucket, and free pages in a freelist that is kept.
//
// Usage: make FILE
package main

import (
	"bytes"
	"fmt"
	"os"

	bolt "go.etcd.io/bbolt"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: make FILE")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "make:", err)
		os.Exit(1)
	}
}

func write(file string) error {
	db, err := bolt.Open(file, 0o600, &bolt.Options{PageSize: 4096})
	if err != nil {
		return err
	}
	steps := []func(*bolt.Tx) error{tree, large, nested, small, thin}
	for _, step := range steps {
		if err := db.Update(step); err != nil {
			return err
		}
	}
	var pages int64
	if err := db.View(func(tx *bolt.Tx) error { pages = tx.Size(); return nil }); err != nil {
		return err
	}
	if err := db.Close(); err != nil {
		return err
	}
	// Without what bbolt made the file longer by, so that a cut anywhere takes a page.
	return os.Truncate(file, pages)
}

// treeKey is long, so that few pages have three levels.
func treeKey(i int) []byte {
	return []byte(fmt.Sprintf("tree/%04d/%s", i, bytes.Repeat([]byte("k"), 300)))
}

func tree(tx *bolt.Tx) error {
	b, err := tx.CreateBucket([]byte("tree"))
	if err != nil {
		return err
	}
	for i := 0; i < 300; i++ {
		if err := b.Put(treeKey(i), bytes.Repeat([]byte{byte('a' + i%26)}, 600)); err != nil {
			return err
		}
	}
	return nil
}

func large(tx *bolt.Tx) error {
	b, err := tx.CreateBucket([]byte("large"))
	if err != nil {
		return err
	}
	for i := 0; i < 6; i++ {
		value := bytes.Repeat([]byte{byte('A' + i)}, 9000)
		if err := b.Put([]byte(fmt.Sprintf("large/%d", i)), value); err != nil {
			return err
		}
	}
	return nil
}

func nested(tx *bolt.Tx) error {
	b, err := tx.CreateBucket([]byte("nested"))
	if err != nil {
		return err
	}
	inner, err := b.CreateBucket([]byte("inner"))
	if err != nil {
		return err
	}
	if err := inner.SetSequence(7); err != nil {
		return err
	}
	for i := 0; i < 60; i++ {
		if err := inner.Put([]byte(fmt.Sprintf("inner/%03d", i)), bytes.Repeat([]byte("v"), 200)); err != nil {
			return err
		}
	}
	tiny, err := b.CreateBucket([]byte("tiny"))
	if err != nil {
		return err
	}
	return tiny.Put([]byte("t"), []byte("1"))
}

func small(tx *bolt.Tx) error {
	b, err := tx.CreateBucket([]byte("inline"))
	if err != nil {
		return err
	}
	for i := 0; i < 5; i++ {
		if err := b.Put([]byte(fmt.Sprintf("inline/%d", i)), []byte("value")); err != nil {
			return err
		}
	}
	_, err = tx.CreateBucket([]byte("empty"))
	return err
}

// thin leaves free pages behind.
func thin(tx *bolt.Tx) error {
	b := tx.Bucket([]byte("tree"))
	for i := 100; i < 140; i++ {
		if err := b.Delete(treeKey(i)); err != nil {
			return err
		}
	}
	return nil
}
