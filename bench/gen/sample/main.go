// Sample writes the small logs of the quickstart, pipelines/data/logins.jsonl and ids.jsonl: ten minutes of logins of some
// sixty people, a few addresses that try passwords, and what the IDS saw of them. Run it in the repository's root:
//
//	go run ./bench/gen/sample
package main

import (
	"cmp"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/seed-98920119/tocsin/bench/gen"
)

type line struct {
	ms   int64
	text string
}

func stamp(ms int64) string {
	return gen.Start.Add(time.Duration(ms) * time.Millisecond).Format("2006-01-02T15:04:05.000Z")
}

var names = []string{"amira", "bjorn", "chen", "dora", "emeka", "fatima", "goran", "hana", "ivan", "jonas", "keiko", "lena"}

func login(r *rand.Rand, ms int64, ip, status string) line {
	return line{ms, fmt.Sprintf(`{"login_time":"%s","source_ip":"%s","username":"%s","status":"%s","method":"password","user_agent":"OpenSSH_9.6","session_id":"%08x"}`,
		stamp(ms), ip, names[r.IntN(len(names))], status, r.Uint32())}
}

// burst is n logins within a window of 20 s, from 1 s after its start.
func burst(r *rand.Rand, lines []line, window int64, n int, ip string) []line {
	for i := range n {
		lines = append(lines, login(r, window*20_000+1000+int64(i)*17_000/int64(n)+r.Int64N(300), ip, "failure"))
	}
	return lines
}

func logins(r *rand.Rand) []line {
	var lines []line
	for range 900 {
		lines = append(lines, login(r, r.Int64N(600_000), fmt.Sprintf("10.0.%d.%d", r.IntN(4), 10+r.IntN(60)), "success"))
	}
	for _, w := range []int64{2, 3, 4, 9, 15} {
		lines = burst(r, lines, w, 6+r.IntN(9), "203.0.113.66")
	}
	for _, w := range []int64{6, 7, 21} {
		lines = burst(r, lines, w, 5, "198.51.100.23")
	}
	lines = burst(r, lines, 12, 4, "198.51.100.77") // one too few
	for i := range 6 {                              // three on either side of a window's border
		lines = append(lines, login(r, 18*20_000-2500+int64(i)*1000, "192.0.2.99", "failure"))
	}
	lines = append(lines, login(r, 431_000, "203.0.113.200", "success"), login(r, 502_000, "203.0.113.201", "success"))
	slices.SortStableFunc(lines, func(a, b line) int { return cmp.Compare(a.ms, b.ms) })
	// what real logs have: a torn line, a login without a time, two that arrive long after their window has closed
	lines = slices.Insert(lines, 300, line{text: lines[300].text[:70]})
	lines = slices.Insert(lines, 500, line{text: `{"source_ip":"10.0.1.17","username":"dora","status":"success"}`})
	for _, i := range []int{700, 800} {
		lines = slices.Insert(lines, i, login(r, lines[i-1].ms-45_000, "10.0.2.31", "success"))
	}
	return lines
}

func alerts(r *rand.Rand) []line {
	var lines []line
	add := func(ms int64, ip, class string) {
		lines = append(lines, line{ms, fmt.Sprintf(`{"event_time":"%s","source_ip":"%s","severity":"%s","attack_classification":"%s","signature":"ET-%d","destination":{"ip":"10.0.0.5","port":22}}`,
			stamp(ms), ip, []string{"medium", "high"}[r.IntN(2)], class, 2_000_000+r.IntN(9999))})
	}
	for range 56 {
		add(r.Int64N(600_000), fmt.Sprintf("192.0.2.%d", 100+r.IntN(100)), "port-scan")
	}
	add(120_500, "198.51.100.23", "ssh-brute-force")
	add(425_000, "203.0.113.200", "credential-stuffing")
	add(509_000, "203.0.113.201", "credential-stuffing")
	add(240_000, "198.51.100.77", "port-scan")
	slices.SortStableFunc(lines, func(a, b line) int { return cmp.Compare(a.ms, b.ms) })
	return lines
}

func main() {
	r := rand.New(rand.NewPCG(7, 7))
	for name, lines := range map[string][]line{"logins": logins(r), "ids": alerts(rand.New(rand.NewPCG(8, 8)))} {
		var b strings.Builder
		for _, l := range lines {
			b.WriteString(l.text + "\n")
		}
		if err := os.WriteFile("pipelines/data/"+name+".jsonl", []byte(b.String()), 0o644); err != nil {
			log.Fatal(err)
		}
	}
}
