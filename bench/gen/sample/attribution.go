package main

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
)

// attribution writes leases.jsonl, firewall.jsonl, dns.jsonl and indicators.jsonl: a day in a network whose addresses go from host
// to host, some given back and some just left; what hosts looked up, what the firewall said of their connections, and domains
// that became known as bad, before or after somebody asked for them. Lines are up to half a minute out of order.
func attribution(r *rand.Rand) (leases, firewall, dns, indicators []line) {
	const hour, minute = 3_600_000, 60_000
	bad := []string{"cdn-update.example", "paste-bin.example", "free-vpn.example", "login-check.example"}
	lease := func(ms int64, ip, host, action string) {
		leases = append(leases, line{ms, fmt.Sprintf(`{"time":"%s","ip":"%s","host":"%s","action":"%s"}`, stamp(ms), ip, host, action)})
	}
	query := func(ms int64, ip, name, result string) {
		dns = append(dns, line{ms, fmt.Sprintf(`{"time":"%s","client":"%s","query":"%s","result":"%s"}`, stamp(ms), ip, name, result)})
	}
	flow := func(ms int64, ip, verdict string, port int) {
		firewall = append(firewall, line{ms, fmt.Sprintf(`{"time":"%s","src":"%s","dst":"198.51.100.%d","port":%d,"verdict":"%s"}`, stamp(ms), ip, 1+r.IntN(250), port, verdict)})
	}
	for a := range 8 {
		ip := fmt.Sprintf("10.9.0.%d", 10+a)
		for at := r.Int64N(hour); at < 20*hour; at += r.Int64N(3 * hour) { // a host after the other
			host, stay := fmt.Sprintf("LAP-%03d", r.IntN(40)), hour+r.Int64N(5*hour)
			for since := int64(0); since < stay; since += 90 * minute { // renewed
				lease(at+since, ip, host, "lease")
			}
			for range 2 + r.IntN(6) {
				query(at+r.Int64N(stay), ip, fmt.Sprintf("www%d.example", r.IntN(30)), "NOERROR")
				flow(at+r.Int64N(stay), ip, []string{"accept", "accept", "drop"}[r.IntN(3)], []int{443, 22, 445}[r.IntN(3)])
			}
			if at += stay; r.IntN(3) > 0 {
				lease(at, ip, host, "release")
			}
			flow(at+r.Int64N(2*minute), ip, "drop", 445) // just before or after it is gone
		}
		flow(r.Int64N(20*hour), "10.9.0.99", "drop", 23) // nobody's address
	}
	for i, name := range bad { // asked for an hour around the moment at which it becomes known, or four hours off
		known := int64(i+1) * 4 * hour
		indicators = append(indicators, line{known, fmt.Sprintf(`{"time":"%s","domain":"%s","source":"feed-%d"}`, stamp(known), name, 1+i%2)})
		for range 3 {
			query(known+r.Int64N(2*hour)-hour, fmt.Sprintf("10.9.0.%d", 10+r.IntN(8)), name, "NOERROR")
		}
		query(known+4*hour+r.Int64N(hour), fmt.Sprintf("10.9.0.%d", 10+r.IntN(8)), name, "NOERROR")
	}
	for _, ip := range []string{"10.9.0.12", "10.9.0.15"} { // something that looks for its servers, in one minute
		at := 7*hour + r.Int64N(60)*minute
		for range 14 {
			query(at+r.Int64N(minute), ip, fmt.Sprintf("%08x.example", r.Uint32()), "NXDOMAIN")
			flow(at+r.Int64N(minute), ip, "drop", 8443)
		}
		for i := range int64(9) { // and as much, spread over minutes
			query(at+(20+i)*minute+r.Int64N(minute), ip, fmt.Sprintf("%08x.example", r.Uint32()), "NXDOMAIN")
			flow(at+(40+i)*minute+r.Int64N(minute), ip, "drop", 8443)
		}
	}
	return disordered(r, leases, minute/2), disordered(r, firewall, minute/2), disordered(r, dns, minute/2), disordered(r, indicators, minute/2)
}

// disordered puts lines into the order in which they arrive, up to most ms late.
func disordered(r *rand.Rand, lines []line, most int64) []line {
	at := map[string]int64{}
	for _, l := range lines {
		at[l.text] = l.ms + r.Int64N(most)
	}
	slices.SortStableFunc(lines, func(a, b line) int { return cmp.Compare(at[a.text], at[b.text]) })
	return lines
}
