package main

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/seed-98920119/tocsin/bench/gen"
)

// logs are the logs of a web server's host as daemons write them: sshd by syslog, its accesses, and what the firewall before it
// refused. One address guesses passwords, one looks for files that are not there, and one comes in though the firewall knows it.
func logs(r *rand.Rand) (auth, access, firewall []line) {
	ssh := func(ms int64, result, user, ip string) {
		at := gen.Start.Add(time.Duration(ms) * time.Millisecond).Format(time.Stamp)
		auth = append(auth, line{ms, fmt.Sprintf("%s web1 sshd[%d]: %s password for %s from %s port %d ssh2", at, 4000+r.IntN(900), result, user, ip, 30000+r.IntN(9000))})
	}
	web := func(ms int64, ip, path string, status int, agent string) {
		at := gen.Start.Add(time.Duration(ms) * time.Millisecond).In(time.FixedZone("", 3600)).Format("02/Jan/2006:15:04:05 -0700")
		access = append(access, line{ms, fmt.Sprintf(`%s - - [%s] "GET %s HTTP/1.1" %d %d "-" "%s"`, ip, at, path, status, 200+r.IntN(9000), agent)})
	}
	for range 60 {
		ssh(r.Int64N(600_000), "Accepted", names[r.IntN(len(names))], fmt.Sprintf("10.0.1.%d", 10+r.IntN(20)))
	}
	for i := range int64(5) {
		ssh(100_000+i*90_000, "Failed", names[i], fmt.Sprintf("10.0.1.%d", 10+i))
	}
	for i := range int64(40) {
		ssh(180_000+i*2_500, "Failed", "invalid user "+names[i%12]+"1", "203.0.113.66")
	}
	for range 25 {
		ms := r.Int64N(600_000)
		auth = append(auth, line{ms, gen.Start.Add(time.Duration(ms)*time.Millisecond).Format(time.Stamp) + " web1 CRON[77]: pam_unix(cron:session): session opened for user root"})
	}
	for range 400 {
		web(r.Int64N(600_000), fmt.Sprintf("192.0.2.%d", 1+r.IntN(60)), []string{"/", "/news", "/img/a b.png", "/search?q=%22x%22"}[r.IntN(4)], 200, `Mozilla/5.0 \"Win\"`)
	}
	for i := range int64(70) {
		web(240_000+i*1_100, "198.51.100.23", fmt.Sprintf("/admin%d.php", i), 404, "curl/8.5")
	}
	for i := range int64(12) {
		ms := 300_000 + i*4_000
		firewall = append(firewall, line{ms, fmt.Sprintf(`%s;203.0.113.9;%d;deny;"port scan; ""quick"""`, stamp(ms), 20+i)})
	}
	firewall = append(firewall, line{10_000, stamp(10_000) + ";192.0.2.5;443;allow;"})
	web(420_000, "203.0.113.9", "/login", 200, "Mozilla/5.0")
	web(425_000, "203.0.113.9", "/wp-login.php", 404, "Mozilla/5.0")
	for _, l := range []*[]line{&auth, &access, &firewall} {
		slices.SortStableFunc(*l, func(a, b line) int { return cmp.Compare(a.ms, b.ms) })
	}
	firewall = slices.Insert(firewall, 0, line{0, "time;src;port;action;reason"})
	auth = slices.Insert(auth, 50, line{0, "last message repeated 2 times"}) // it has no time: no event
	return auth, access, firewall
}
