package main

import (
	"fmt"
	"math/rand/v2"
)

// presence writes logons.jsonl, badges.jsonl and malware.jsonl: a week in which people come in through a door, log on at a
// workstation, or stay at home and use the VPN, and in which a scanner finds a few things. Lines are up to five minutes out of
// order.
func presence(r *rand.Rand) (logons, badges, malware []line) {
	const day, hour, minute = 86_400_000, 3_600_000, 60_000
	logon := func(ms int64, user, kind, host string) {
		logons = append(logons, line{ms, fmt.Sprintf(`{"time":"%s","user":"%s","kind":"%s","host":"%s"}`, stamp(ms), user, kind, host)})
	}
	badge := func(ms int64, user string) {
		badges = append(badges, line{ms, fmt.Sprintf(`{"time":"%s","holder":"%s","door":"%s"}`, stamp(ms), user, []string{"north", "south", "garage"}[r.IntN(3)])})
	}
	found := func(ms int64, host, name string) {
		malware = append(malware, line{ms, fmt.Sprintf(`{"time":"%s","host":"%s","malware":"%s"}`, stamp(ms), host, name)})
	}
	for d := range int64(5) {
		for i, user := range names {
			host, start := fmt.Sprintf("WS-%03d", i), d*day+7*hour+r.Int64N(2*hour)
			if r.IntN(4) == 0 || user == "lena" { // at home
				for range 1 + r.IntN(3) {
					logon(start+r.Int64N(8*hour), user, "vpn", "")
				}
				continue
			}
			badge(start, user)
			for range 1 + r.IntN(4) {
				logon(start+2*minute+r.Int64N(8*hour), user, "console", host)
				badge(start+r.Int64N(8*hour), user)
			}
		}
	}
	logon(2*day+11*hour, "lena", "console", "WS-011") // she is at home
	logon(3*day+23*hour, "dora", "console", "WS-003") // long after she came
	badge(3*day+9*hour, "amira")
	logon(3*day+9*hour-3*minute, "amira", "console", "WS-000") // the door's clock is behind
	badge(1*day+9*hour+40*minute, "chen")
	badge(1*day+9*hour+55*minute, "chen")
	logon(1*day+10*hour, "chen", "vpn", "") // from two places
	found(1*day+12*hour, "WS-002", "Emotet")
	found(2*day+11*hour+20*minute, "WS-011", "Mimikatz")
	found(3*day+3*hour, "WS-007", "EICAR") // nobody was there
	found(4*day+13*hour, "SRV-01", "Cobalt Strike")
	return disordered(r, logons, 5*minute), disordered(r, badges, 5*minute), disordered(r, malware, 5*minute)
}
