package main

import (
	"encoding/base32"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// control writes flows.jsonl and resolver.jsonl: four hours of a dozen clients that connect here and there and ask for names. One of
// them reports to its master every five minutes, give or take twenty seconds, and one takes a file out by DNS; a clock is set every
// 64 seconds, and a scanner for viruses asks for the hash of a file now and then. Lines are up to ten seconds out of order.
func control(r *rand.Rand) (flows, queries []line) {
	const hours = 4 * 3_600_000
	flow := func(ms int64, src, dst string, port int) {
		flows = append(flows, line{ms, fmt.Sprintf(`{"time":"%s","src":"%s","dst":"%s","port":%d,"bytes":%d}`, stamp(ms), src, dst, port, 200+r.IntN(9000))})
	}
	query := func(ms int64, client, name string) {
		queries = append(queries, line{ms, fmt.Sprintf(`{"time":"%s","client":"%s","query":"%s"}`, stamp(ms), client, name)})
	}
	random := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b))
	}
	for c := range 12 {
		client := fmt.Sprintf("10.9.1.%d", 20+c)
		for range 40 {
			at := r.Int64N(hours)
			query(at, client, []string{"www", "mail", "cdn3", "api.eu", "static-assets-for-the-new-portal"}[r.IntN(5)]+fmt.Sprintf(".site%d.example", r.IntN(25)))
			flow(at+50, client, fmt.Sprintf("198.51.100.%d", 1+r.IntN(25)), 443)
		}
		query(r.Int64N(hours), client, fmt.Sprintf("%d.1.9.10.in-addr.arpa", 20+c))
	}
	for at := int64(120_000); at < hours; at += 280_000 + r.Int64N(40_000) {
		flow(at, "10.9.1.23", "203.0.113.80", 443)
	}
	for at := int64(5_000); at < hours; at += 64_000 {
		flow(at, "10.9.1.5", "192.0.2.123", 123)
	}
	for i := range int64(150) {
		query(5_400_000+i*4_000+r.Int64N(3_000), "10.9.1.31", random(30)+"."+random(9)+".t.files.example")
	}
	for range 9 {
		query(r.Int64N(hours), "10.9.1.27", fmt.Sprintf("%s.lookup.scanner.example", random(40)[:60]))
	}
	return disordered(r, flows, 10_000), disordered(r, queries, 10_000)
}

// agents are two hours of what four machines write, a line every half minute, give or take: one is silent for a quarter of an hour, and
// one never comes back.
func agents(r *rand.Rand) (lines []line) {
	for i, host := range []string{"fw-1", "dc-1", "web-1", "web-2"} {
		for at := int64(i) * 1000; at < 7_200_000; at += 20_000 + r.Int64N(20_000) {
			if host == "dc-1" && at > 2_400_000 && at < 3_300_000 || host == "web-2" && at > 5_000_000 {
				continue
			}
			lines = append(lines, line{at, fmt.Sprintf(`{"time":"%s","host":"%s","message":"%s"}`, stamp(at), host, []string{"heartbeat", "session opened", "config saved"}[r.IntN(3)])})
		}
	}
	slices.SortStableFunc(lines, func(a, b line) int { return int(a.ms - b.ms) })
	return lines
}
