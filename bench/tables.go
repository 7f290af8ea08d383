package main

import (
	"bufio"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/seed-98920119/tocsin/runtime/event"
	tables "github.com/seed-98920119/tocsin/runtime/table"
)

// What tables take: a process each that reads one, reads it again beside the first, and looks keys up, with the limit of memory that
// `tocsin run` sets (cli, limitMemory).

var tableRows = flag.Int("tablerows", 10_000_000, "rows of the table of exact keys; that of networks has a tenth")

const tableKeys = 2_000_000 // that are looked up

// tableKinds are the tables, by the name of their file.
var tableKinds = []string{"exact", "cidr"}

func tableSize(kind string) int {
	if kind == "cidr" {
		return *tableRows / 10
	}
	return *tableRows
}

// tableKey is the n-th key of a table: different ones, in no order.
func tableKey(kind string, n int) netip.Prefix {
	x := uint32(n) * 2_654_435_761 // odd: each number once
	if kind == "cidr" {
		bits := 24 + n%9
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(x >> 24), byte(x >> 16), byte(x >> 8), byte(x)}), bits).Masked()
	}
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(x >> 24), byte(x >> 16), byte(x >> 8), byte(x)}), 32)
}

func benchTables() error {
	if err := os.MkdirAll(*dir, 0o755); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(out, "table\trows\tMiB of texts\tread, s of CPU\ttable, MiB\tB a row beside texts\tpeak RSS\tand reading again\tns of CPU a look-up\t")
	for _, kind := range tableKinds {
		if err := makeTable(kind); err != nil {
			return err
		}
		cmd := exec.Command(self, "-loop", "table", "-dir", *dir, "-tablerows", fmt.Sprint(*tableRows), kind)
		cmd.Stderr = os.Stderr
		line, err := cmd.Output()
		if err != nil {
			return err
		}
		fmt.Fprint(out, string(line))
	}
	return out.Flush()
}

// makeTable writes the file of a table.
func makeTable(kind string) error {
	say("writing %d rows of %s", tableSize(kind), kind)
	f, err := os.Create(filepath.Join(*dir, kind+".csv"))
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	fmt.Fprintln(w, "key,owner,tier")
	seen := map[netip.Prefix]bool{}
	for i, n := 0, 0; n < tableSize(kind); i++ {
		p := tableKey(kind, i)
		if kind == "cidr" {
			if seen[p] {
				continue
			}
			seen[p] = true
			fmt.Fprintf(w, "%s,owner-%d,%d\n", p, n%1000, n%5)
		} else {
			fmt.Fprintf(w, "%s,owner-%d,%d\n", p.Addr(), n%1000, n%5)
		}
		n++
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Close()
}

// loopTable is the process that a table is measured in.
func loopTable(kind string) error {
	spec := tables.Spec{Path: filepath.Join(*dir, kind+".csv"), Format: "csv", Key: "key"}
	if kind == "cidr" {
		spec.Match = tables.MatchNetworks
	}
	began := cpuTime()
	src, err := tables.NewSource(kind, spec)
	if err != nil {
		return err
	}
	took, first := cpuTime()-began, peak()
	t := src.Table()
	size, rows := t.Bytes(), t.Rows()
	texts := textsOf(spec.Path)
	debug.SetMemoryLimit(512<<20 + 256<<20 + 256<<20 + 2*size)
	debug.FreeOSMemory()
	_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) // the peak begins anew
	if err := src.Reload(); err != nil {
		return err
	}
	second := peak()
	t = src.Table()
	ns := lookUp(t, kind)
	fmt.Printf("%s\t%d\t%d\t%.1f\t%d\t%.1f\t%d MiB\t%d MiB\t%.0f\t\n", kind, rows, texts>>20, took.Seconds(), size>>20, float64(size-texts)/float64(rows), first>>10, second>>10, ns)
	return nil
}

// textsOf are the bytes of a file's cells.
func textsOf(path string) int64 {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	defer runtime.GC()
	return int64(len(b) - strings.Count(string(b), ",") - strings.Count(string(b), "\n"))
}

// lookUp returns the ns of CPU that a key takes, of a block of 4096, with its row and cells.
func lookUp(t *tables.Table, kind string) float64 {
	r := rand.New(rand.NewPCG(1, 1))
	var packed []byte
	var ends []int
	for range tableKeys {
		packed = tableKey(kind, r.IntN(tableSize(kind))).Addr().AppendTo(packed)
		ends = append(ends, len(packed))
	}
	keys := make([]event.Value, len(ends))
	from := 0
	for i, end := range ends {
		keys[i] = event.Value{Kind: event.String, Text: packed[from:end]}
		from = end
	}
	var f tables.Finder
	var cells []event.Value
	best := time.Duration(1 << 62)
	for range 3 {
		began := cpuTime()
		for at := 0; at+4096 <= len(keys); at += 4096 {
			for _, row := range f.Find(t, keys[at:at+4096]) {
				if row.Known() {
					cells = t.Cells(cells[:0], row)
				}
			}
		}
		best = min(best, cpuTime()-began)
	}
	return float64(best.Nanoseconds()) / float64(len(keys)/4096*4096)
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// peak is the process's largest resident set so far, KiB, where the system tells.
func peak() (kib int64) {
	b, _ := os.ReadFile("/proc/self/status")
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	_, _ = fmt.Sscan(rest, &kib)
	return kib
}
