package main

import (
	"errors"
	"fmt"
	"math/rand"
	"time"

	bolt "go.etcd.io/bbolt"
)

// trial is one file before the judge.
type trial struct {
	file    string
	manner  manner
	rng     *rand.Rand
	options bolt.Options
	db      *bolt.DB
	m       *bucket
	// phase says what is going on, for complaints.
	phase   string
	seen    sight
	commits int
}

func newTrial(file string, manner manner, seed int64, freelist string) *trial {
	rng := rand.New(rand.NewSource(seed*int64(manners) + int64(manner)))
	synced := freelist == "synced" || (freelist == "auto" && seed%4 == 3)
	kind := bolt.FreelistArrayType
	if rng.Intn(2) == 0 {
		kind = bolt.FreelistMapType
	}
	options := bolt.Options{Timeout: time.Second, NoFreelistSync: !synced, FreelistType: kind, NoGrowSync: true}
	return &trial{file: file, manner: manner, rng: rng, options: options}
}

// errRolledBack ends a transaction that is to leave no trace.
var errRolledBack = errors.New("rolled back")

// run judges the file; a panic of bbolt is a verdict like any other. After one the database is left open: bbolt may
// hold its locks.
func (t *trial) run(rounds int) (err error) {
	defer func() {
		if why := recover(); why != nil {
			err = fmt.Errorf("panic: %v", why)
		}
	}()
	t.phase = "opening"
	if err := t.open(); err != nil {
		return err
	}
	t.phase = "at first"
	err = t.db.View(func(tx *bolt.Tx) (err error) {
		if err = consistent(tx); err != nil {
			return err
		}
		t.m, t.seen, err = look(tx)
		return err
	})
	if err != nil {
		return err
	}
	if err := inspect(t.db, t.m); err != nil {
		return err
	}
	reopen := t.rng.Intn(rounds)
	for round := 0; round < rounds; round++ {
		if err := t.round(round, rounds); err != nil {
			return err
		}
		if round == reopen {
			if err := t.again(fmt.Sprintf("opened again after round %d", round)); err != nil {
				return err
			}
		}
	}
	if err := t.again("opened again at the end"); err != nil {
		return err
	}
	return t.db.Close()
}

func (t *trial) open() error {
	options := t.options
	db, err := bolt.Open(t.file, 0o600, &options)
	if err != nil {
		return err
	}
	// The files are scratch, and no power fails here.
	db.NoSync = true
	t.db = db
	return nil
}

func (t *trial) again(phase string) error {
	t.phase = phase
	if err := t.db.Close(); err != nil {
		return err
	}
	if err := t.open(); err != nil {
		return err
	}
	return inspect(t.db, t.m)
}

// round is one transaction and the look at what it left.
func (t *trial) round(round, rounds int) error {
	t.phase = fmt.Sprintf("round %d", round)
	alive()
	keep := t.manner != mixed || t.rng.Intn(8) > 0
	next := t.m.clone()
	err := t.db.Update(func(tx *bolt.Tx) error {
		w := &work{rng: t.rng, tx: tx, root: next, pageSize: t.db.Info().PageSize}
		if err := w.changes(t.manner, round, rounds); err != nil {
			return fmt.Errorf("%s: %w", w.doing, err)
		}
		t.phase = fmt.Sprintf("round %d, commit after %s", round, w.doing)
		if !keep {
			return errRolledBack
		}
		return nil
	})
	switch {
	case err == errRolledBack:
		t.phase = fmt.Sprintf("round %d, rolled back", round)
	case err != nil:
		return err
	default:
		t.m = next
		t.commits++
	}
	return inspect(t.db, t.m)
}
