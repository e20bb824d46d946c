// Judge opens bbolt files with the real bbolt library, read-write, changes them at random and checks after every
// commit that bbolt still finds them consistent and that they hold what a model in memory holds.
//
// A file can pass every checker and still be deadly: bbolt meets some faults of a tree's shape only when it merges
// the very pages that are shaped wrongly. So each file is tried three times, from its original bytes: twice pairs are
// taken out of all its pages, section by section, and once everything is changed at random.
//
// Usage: judge [-seed N] [-rounds R] [-freelist auto|none|synced] FILE...
//
// Prints one line for each file, with tabs between the fields:
//
//	ok      FILE  BUCKETS  KEYS  DIGEST  COMMITS   what bbolt read at first, and how many commits it then survived
//	broken  FILE  WHAT
//
// and exits with 0 when all are ok, 1 when one is broken, 2 when it was called wrongly, crashed or hung. Files are
// changed: pass scratch copies. The seed of the n-th file is N plus n, so that any file can be judged again alone;
// bbolt itself merges pages in no fixed order.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
)

func main() {
	seed := flag.Int64("seed", 1, "seed of the first file")
	rounds := flag.Int("rounds", 8, "transactions for each of the three tries of a file")
	freelist := flag.String("freelist", "auto", "keep the freelist in the file: none (as etcd), synced, or auto, by seed")
	flag.Parse()
	if flag.NArg() == 0 || *rounds < 1 || (*freelist != "auto" && *freelist != "none" && *freelist != "synced") {
		flag.Usage()
		os.Exit(2)
	}
	// A page number that leads out of the file is a fault of memory; this makes it a panic, which judge catches.
	debug.SetPanicOnFault(true)
	debug.SetMaxStack(64 << 20)
	go watch()
	out := bufio.NewWriter(os.Stdout)
	code := 0
	for index, file := range flag.Args() {
		seen, commits, err := judge(file, *seed+int64(index), *rounds, *freelist)
		if err != nil {
			code = 1
			fmt.Fprintf(out, "broken\t%s\t%s\n", file, oneLine(err))
		} else {
			fmt.Fprintf(out, "ok\t%s\t%d\t%d\t%016x\t%d\n", file, seen.buckets, seen.keys, seen.digest, commits)
		}
		// A crash in one of bbolt's own goroutines ends the process: what was found before must be out by then.
		if err := out.Flush(); err != nil {
			fmt.Fprintln(os.Stderr, "judge:", err)
			os.Exit(2)
		}
	}
	os.Exit(code)
}

// judge tries a file in every manner.
func judge(file string, seed int64, rounds int, freelist string) (seen sight, commits int, err error) {
	original, err := os.ReadFile(file)
	if err != nil {
		return seen, 0, err
	}
	for manner := manner(0); manner < manners; manner++ {
		if manner > 0 {
			if err := os.WriteFile(file, original, 0o600); err != nil {
				return seen, commits, err
			}
		}
		trial := newTrial(file, manner, seed, freelist)
		if err := trial.run(rounds); err != nil {
			return seen, commits, fmt.Errorf("seed %d, try %d, %s: %w", seed, manner, trial.phase, err)
		}
		seen = trial.seen
		commits += trial.commits
	}
	return seen, commits, nil
}

func oneLine(err error) string {
	return strings.Join(strings.Fields(err.Error()), " ")
}
