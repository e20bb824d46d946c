// Judge opens bbolt files with the real bbolt library, read-write, changes them at random and checks after every
// commit that bbolt still finds them consistent and that they hold what a model in memory holds.
//
// A file can pass every checker and still be deadly: bbolt meets some faults of a tree's shape only when it merges
// pages. So the first changes take most pairs out of the largest buckets, from all their pages, and everything else
// comes after.
//
// Usage: judge [-seed N] [-rounds R] [-freelist auto|none|synced] FILE...
//
// Prints one line for each file, with tabs between the fields:
//
//	ok      FILE  BUCKETS  KEYS  DIGEST  COMMITS   what bbolt read at first, and how many commits it then survived
//	broken  FILE  WHAT
//
// and exits with 0 when all are ok, 1 when one is broken, 2 when it was called wrongly or crashed. Files are changed:
// pass scratch copies. The seed of the n-th file is N plus n, so that any file can be judged again alone.
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
	rounds := flag.Int("rounds", 12, "transactions for each file")
	freelist := flag.String("freelist", "auto", "keep the freelist in the file: none (as etcd), synced, or auto, by seed")
	flag.Parse()
	if flag.NArg() == 0 || *rounds < 1 || (*freelist != "auto" && *freelist != "none" && *freelist != "synced") {
		flag.Usage()
		os.Exit(2)
	}
	// A page number that leads out of the file is a fault of memory; this makes it a panic, which judge catches.
	debug.SetPanicOnFault(true)
	out := bufio.NewWriter(os.Stdout)
	code := 0
	for index, file := range flag.Args() {
		trial := newTrial(file, *seed+int64(index), *freelist)
		if err := trial.run(*rounds); err != nil {
			code = 1
			fmt.Fprintf(out, "broken\t%s\tseed %d, %s: %s\n", file, trial.seed, trial.phase, oneLine(err))
		} else {
			seen := trial.seen
			fmt.Fprintf(out, "ok\t%s\t%d\t%d\t%016x\t%d\n", file, seen.buckets, seen.keys, seen.digest, trial.commits)
		}
		// A crash in one of bbolt's own goroutines ends the process: what was found before must be out by then.
		if err := out.Flush(); err != nil {
			fmt.Fprintln(os.Stderr, "judge:", err)
			os.Exit(2)
		}
	}
	os.Exit(code)
}

func oneLine(err error) string {
	return strings.Join(strings.Fields(err.Error()), " ")
}
