package main

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
)

// sessions writes sessions.jsonl and factors.jsonl: twenty minutes of logins and of the second factors that should follow each
// within seconds, a few addresses that guess passwords, and logins that no second factor follows. Lines are up to four
// seconds out of order, as when several servers write one log.
func sessions(r *rand.Rand) (sessions, factors []line) {
	session := 0
	login := func(ms int64, ip, name, status string) string {
		session++
		id := fmt.Sprintf("s%05d", session)
		sessions = append(sessions, line{ms, fmt.Sprintf(`{"time":"%s","session_id":"%s","source_ip":"%s","username":"%s","status":"%s"}`, stamp(ms), id, ip, name, status)})
		return id
	}
	factor := func(ms int64, id, result string) {
		factors = append(factors, line{ms, fmt.Sprintf(`{"time":"%s","session_id":"%s","factor":"totp","result":"%s"}`, stamp(ms), id, result)})
	}
	for range 400 { // people, some of whom mistype first
		ms, ip, name := 20_000+r.Int64N(1_100_000), fmt.Sprintf("10.0.%d.%d", r.IntN(8), 10+r.IntN(200)), names[r.IntN(len(names))]
		for i := range r.Int64N(12) - 8 {
			login(ms-9_000+i*2_500, ip, name, "failure")
		}
		factor(ms+1_000+r.Int64N(18_000), login(ms, ip, name, "success"), "passed")
	}
	guess := func(from, every int64, failures int, ip, name string) int64 {
		for i := range int64(failures) {
			login(from+i*every+r.Int64N(every/2), ip, name, "failure")
		}
		return from + int64(failures)*every
	}
	enter := func(ms int64, ip, name string) { factor(ms+5_000, login(ms, ip, name, "success"), "passed") }
	enter(guess(95_000, 9_000, 7, "203.0.113.66", "hana"), "203.0.113.66", "hana")
	enter(guess(200_000, 2_000, 12, "198.51.100.23", "ivan"), "198.51.100.23", "ivan")
	enter(guess(400_000, 2_000, 3, "198.51.100.23", "lena"), "198.51.100.23", "lena") // the login before starts over
	enter(guess(650_000, 2_000, 5, "198.51.100.23", "chen"), "198.51.100.23", "chen")
	enter(guess(300_000, 5_000, 4, "198.51.100.77", "dora"), "198.51.100.77", "dora") // one too few
	enter(guess(100_000, 140_000, 5, "192.0.2.99", "emeka"), "192.0.2.99", "emeka")   // too slow
	guess(500_000, 4_000, 9, "203.0.113.9", "root")                                   // never gets in
	enter(guess(700_000, 1_000, 8, "192.0.2.10", "scanner"), "192.0.2.10", "scanner") // our own scanner
	login(230_000, "10.0.9.1", "goran", "success")                                    // no second factor
	factor(430_000, login(415_000, "10.0.9.2", "keiko", "success"), "failed")
	factor(641_000, login(610_000, "10.0.9.3", "bjorn", "success"), "passed") // a second late
	factor(940_000, login(910_000, "10.0.9.4", "amira", "success"), "passed") // at the last moment
	shuffled := func(lines []line) []line {
		at := map[string]int64{}
		for _, l := range lines {
			at[l.text] = l.ms + r.Int64N(4_000)
		}
		slices.SortStableFunc(lines, func(a, b line) int { return cmp.Compare(at[a.text], at[b.text]) })
		return lines
	}
	sessions, factors = shuffled(sessions), shuffled(factors)
	late := line{text: fmt.Sprintf(`{"time":"%s","session_id":"s99999","source_ip":"203.0.113.9","username":"root","status":"failure"}`, stamp(sessions[300].ms-60_000))}
	return slices.Insert(sessions, 300, late), factors
}
