package main

import (
	"fmt"
	"math/rand"

	bolt "go.etcd.io/bbolt"
)

// mostBytes is about how much a file may hold before nothing more is added: each commit is followed by a look at all.
const mostBytes = 4 << 20

// work is the changes of one transaction, to the file and the model alike.
type work struct {
	rng      *rand.Rand
	tx       *bolt.Tx
	root     *bucket
	pageSize int
	// doing names what was done so far.
	doing string
}

// manner is how a file is tried.
type manner int

const (
	// leftward takes pairs out from the right edge on, where a writer's last steps show.
	leftward manner = iota
	// rightward takes pairs out from the left edge on, while other changes go on elsewhere.
	rightward
	// mixed makes every kind of change, first those that remove many pairs.
	mixed
	manners
)

// changes makes one of a number of transactions.
func (w *work) changes(m manner, round, rounds int) error {
	switch {
	case m == mixed && round < (rounds+2)/3:
		return w.removal()
	case m == mixed:
		for n := 1 + w.rng.Intn(5); n > 0; n-- {
			if err := w.one(); err != nil {
				return err
			}
		}
		return nil
	case round == 0:
		// Only the outermost pages of one side, with all others as they were written.
		for _, p := range w.largest(3) {
			if err := w.thinEdge(p, 3+w.rng.Intn(20), m == rightward); err != nil {
				return err
			}
		}
		return nil
	}
	// Most keys of every page of a section: each becomes too small and looks for a neighbour.
	section := float64(round-1) / float64(rounds-1)
	width := 1 / float64(rounds-1)
	if m == leftward {
		section = 1 - width - section
	}
	for _, p := range w.largest(3) {
		share := 0.65 + 0.25*w.rng.Float64()
		from := section + 0.5*width*(w.rng.Float64()-0.5)
		if err := w.thin(p, from, from+1.3*width, share); err != nil {
			return err
		}
	}
	if m == rightward {
		return w.one()
	}
	return nil
}

// removal takes many pairs out of the largest buckets.
func (w *work) removal() error {
	for _, p := range w.largest(3) {
		var err error
		switch w.rng.Intn(6) {
		case 0:
			err = w.run(p, 0, 0.3+0.3*w.rng.Float64())
		case 1:
			err = w.run(p, 1, 0.3+0.3*w.rng.Float64())
		case 2:
			err = w.run(p, w.rng.Float64(), 0.5*w.rng.Float64())
		case 3:
			err = w.thin(p, 0, 1, 0.3+0.6*w.rng.Float64())
		case 4:
			from := w.rng.Float64()
			err = w.thin(p, from, from+0.3, 0.9)
		default:
			err = w.edges(p)
		}
		if err != nil {
			return err
		}
	}
	return w.one()
}

// one makes one random change somewhere.
func (w *work) one() error {
	p := w.anywhere()
	grows := w.root.bytes() < mostBytes
	switch n := w.rng.Intn(100); {
	case n < 20 && grows:
		return w.insert(p, 1+w.rng.Intn(20), w.valueBytes)
	case n < 28 && grows:
		return w.appendRun(p)
	case n < 35 && grows:
		return w.insert(p, 1+w.rng.Intn(2), func() int { return w.rng.Intn(6 * w.pageSize) })
	case n < 45:
		return w.overwrite(p, 1+w.rng.Intn(10))
	case n < 55:
		return w.single(p, 1+w.rng.Intn(10))
	case n < 67:
		return w.run(p, w.rng.Float64(), 0.6*w.rng.Float64())
	case n < 75:
		return w.thin(p, 0, 1, 0.5+0.5*w.rng.Float64())
	case n < 78:
		return w.run(p, 0, 1)
	case n < 85 && grows:
		return w.create(p)
	case n < 90:
		return w.drop(p)
	default:
		return w.sequence(p)
	}
}

func (w *work) did(p place, what string, count int) {
	if w.doing != "" {
		w.doing += ", "
	}
	w.doing += fmt.Sprintf("%s %d in %q", what, count, p.path)
}

// largest returns the count buckets with the most pairs.
func (w *work) largest(count int) []place {
	places := w.root.places(nil)[1:]
	for i := 0; i < len(places) && i < count; i++ {
		for j := i + 1; j < len(places); j++ {
			if len(places[j].m.pairs) > len(places[i].m.pairs) {
				places[i], places[j] = places[j], places[i]
			}
		}
	}
	if len(places) > count {
		places = places[:count]
	}
	return places
}

// anywhere picks a bucket, large ones more often; the root bucket when there is no other.
func (w *work) anywhere() place {
	if w.rng.Intn(2) == 0 {
		if places := w.largest(2); len(places) > 0 {
			return places[w.rng.Intn(len(places))]
		}
	}
	places := w.root.places(nil)
	return places[w.rng.Intn(len(places))]
}

func (w *work) valueBytes() int {
	switch w.rng.Intn(10) {
	case 0:
		return 0
	case 1, 2:
		return w.rng.Intn(1 + w.pageSize)
	default:
		return w.rng.Intn(120)
	}
}

func (w *work) noise(length int) []byte {
	noise := make([]byte, length)
	w.rng.Read(noise)
	return noise
}

// newKey makes a key that is not there yet, mostly beside one that is.
func (w *work) newKey(m *bucket, keys []string) string {
	for {
		var key []byte
		if len(keys) > 0 && w.rng.Intn(4) > 0 {
			key = []byte(keys[w.rng.Intn(len(keys))])
			if len(key) > 300 {
				key = key[:300]
			}
			switch w.rng.Intn(3) {
			case 0:
				key = key[:1+w.rng.Intn(len(key))]
			case 1:
				key[w.rng.Intn(len(key))] = byte(w.rng.Intn(256))
			}
		}
		key = append(key, w.noise(1+w.rng.Intn(12))...)
		if !m.has(string(key)) {
			return string(key)
		}
	}
}

// bucket returns the bucket of the file at p with a random fill, as users set one.
func (w *work) bucket(p place) (*bolt.Bucket, error) {
	b := find(w.tx, p.path)
	if b == nil {
		return nil, fmt.Errorf("bucket %q is not found", p.path)
	}
	b.FillPercent = []float64{0.5, 0.5, 0.9, 1, 0.2}[w.rng.Intn(5)]
	return b, nil
}

func (w *work) put(b *bolt.Bucket, m *bucket, key string, value []byte) error {
	m.pairs[key] = value
	return b.Put([]byte(key), value)
}

func (w *work) insert(p place, count int, valueBytes func() int) error {
	if len(p.path) == 0 {
		return w.create(p)
	}
	b, err := w.bucket(p)
	if err != nil {
		return err
	}
	keys := p.m.keys()
	w.did(p, "insert", count)
	for ; count > 0; count-- {
		if err := w.put(b, p.m, w.newKey(p.m, keys), w.noise(valueBytes())); err != nil {
			return err
		}
	}
	return nil
}

// appendRun puts many pairs beyond the last key, as etcd does.
func (w *work) appendRun(p place) error {
	if len(p.path) == 0 {
		return w.create(p)
	}
	b, err := w.bucket(p)
	if err != nil {
		return err
	}
	last := ""
	if keys := p.m.keys(); len(keys) > 0 {
		last = keys[len(keys)-1]
	}
	count := w.rng.Intn(200)
	w.did(p, "append", count)
	length := w.rng.Intn(1 + w.pageSize/3)
	for i := 0; i < count; i++ {
		key := fmt.Sprintf("%.300s\xff%06d", last, i)
		if p.m.has(key) {
			continue
		}
		if err := w.put(b, p.m, key, w.noise(w.rng.Intn(1+length))); err != nil {
			return err
		}
	}
	return nil
}

func (w *work) overwrite(p place, count int) error {
	keys := p.m.keys()
	if len(keys) == 0 || len(p.path) == 0 {
		return nil
	}
	b, err := w.bucket(p)
	if err != nil {
		return err
	}
	w.did(p, "overwrite", count)
	for ; count > 0; count-- {
		if err := w.put(b, p.m, keys[w.rng.Intn(len(keys))], w.noise(w.valueBytes())); err != nil {
			return err
		}
	}
	return nil
}

// remove deletes these keys.
func (w *work) remove(p place, what string, keys []string) error {
	if len(keys) == 0 {
		return nil
	}
	b, err := w.bucket(p)
	if err != nil {
		return err
	}
	w.did(p, what, len(keys))
	for _, key := range keys {
		if err := b.Delete([]byte(key)); err != nil {
			return err
		}
		delete(p.m.pairs, key)
	}
	return nil
}

func (w *work) single(p place, count int) error {
	keys := p.m.keys()
	picked := make([]string, 0, count)
	for _, index := range w.rng.Perm(len(keys)) {
		if len(picked) == count {
			break
		}
		picked = append(picked, keys[index])
	}
	return w.remove(p, "delete", picked)
}

// run deletes a share of all keys side by side; at tells where: 0 at the left edge, 1 at the right.
func (w *work) run(p place, at, share float64) error {
	keys := p.m.keys()
	count := int(share * float64(len(keys)))
	from := int(at * float64(len(keys)-count))
	if count < 1 {
		return nil
	}
	return w.remove(p, "delete a run of", keys[from:from+count])
}

// thin deletes a share of the keys between two places of a bucket, each by chance.
func (w *work) thin(p place, from, to, share float64) error {
	keys := p.m.keys()
	at := func(part float64) int {
		if part < 0 {
			part = 0
		}
		if part > 1 {
			part = 1
		}
		return int(part * float64(len(keys)))
	}
	return w.remove(p, "thin out", w.chosen(keys[at(from):at(to)], share))
}

// thinEdge deletes most of the first or last few keys.
func (w *work) thinEdge(p place, count int, left bool) error {
	keys := p.m.keys()
	if count > len(keys)/2 {
		count = len(keys) / 2
	}
	if left {
		keys = keys[:count]
	} else {
		keys = keys[len(keys)-count:]
	}
	return w.remove(p, "thin out the edge,", w.chosen(keys, 0.75))
}

// chosen picks a share of the keys, each by chance.
func (w *work) chosen(keys []string, share float64) []string {
	picked := make([]string, 0, len(keys))
	for _, key := range keys {
		if w.rng.Float64() < share {
			picked = append(picked, key)
		}
	}
	return picked
}

// edges deletes a few keys at each end: the outermost pages are where a writer's last steps show.
func (w *work) edges(p place) error {
	keys := p.m.keys()
	left := w.rng.Intn(1 + len(keys)/4)
	right := w.rng.Intn(1 + len(keys)/4)
	picked := append(append([]string(nil), keys[:left]...), keys[len(keys)-right:]...)
	return w.remove(p, "delete at the edges", picked)
}

// create makes a bucket in p, with some pairs or none.
func (w *work) create(p place) error {
	if len(p.path) > 6 {
		return nil
	}
	b, err := w.bucket(p)
	if err != nil {
		return err
	}
	name := w.newKey(p.m, p.m.names())
	w.did(p, "create bucket", 1)
	inner, err := b.CreateBucket([]byte(name))
	if err != nil {
		return err
	}
	below := newBucket()
	p.m.buckets[name] = below
	for n := []int{0, 3, 30, 300}[w.rng.Intn(4)]; n > 0; n-- {
		if err := w.put(inner, below, w.newKey(below, nil), w.noise(w.rng.Intn(60))); err != nil {
			return err
		}
	}
	return nil
}

// drop deletes a bucket, those inside it first: bbolt 1.3.6 deletes them while it iterates over them.
func (w *work) drop(p place) error {
	places := p.m.places(p.path)
	if len(p.path) == 0 || len(places) > 50 {
		return nil
	}
	w.did(p, "delete bucket of", len(places))
	for i := len(places) - 1; i >= 0; i-- {
		path := places[i].path
		name := path[len(path)-1]
		if err := find(w.tx, path[:len(path)-1]).DeleteBucket([]byte(name)); err != nil {
			return err
		}
	}
	above := w.root
	for _, name := range p.path[:len(p.path)-1] {
		above = above.buckets[name]
	}
	delete(above.buckets, p.path[len(p.path)-1])
	return nil
}

func (w *work) sequence(p place) error {
	if len(p.path) == 0 {
		return nil
	}
	b, err := w.bucket(p)
	if err != nil {
		return err
	}
	w.did(p, "sequence", 1)
	if w.rng.Intn(2) == 0 {
		p.m.sequence, err = b.NextSequence()
		return err
	}
	p.m.sequence = uint64(w.rng.Int63())
	return b.SetSequence(p.m.sequence)
}
