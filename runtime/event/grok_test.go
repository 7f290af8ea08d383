package event

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/elastic/go-grok/patterns"
)

func grokFormat(t testing.TB, pattern string, own map[string]string) *Format {
	t.Helper()
	f, err := Grok(pattern, own)
	if err != nil {
		t.Fatalf("%s: %v", pattern, err)
	}
	return f
}

// grokked is a line as its format reads it, without raw; nil if it does not know it.
func grokked(t testing.TB, f *Format, line string) map[string]any {
	t.Helper()
	var fields Fields
	text := f.Projection(&fields, []Field{fields.Add(Whole)}).Object([]byte(line))
	if text == nil {
		return nil
	}
	out := map[string]any{}
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	delete(out, Raw)
	return out
}

// Lines as well-known programs write them, with the fields that a person reads in them.
func TestGrokLines(t *testing.T) {
	for _, x := range []struct {
		pattern string
		own     map[string]string
		line    string
		want    string
	}{
		{`^%{SYSLOGTIMESTAMP:timestamp} %{SYSLOGHOST:host} sshd\[%{POSINT:pid:int}\]: %{WORD:result} password for (?:invalid user )?%{USERNAME:user} from %{IP:ip} port %{INT:port:int}`, nil,
			"Mar  2 08:00:06 web1 sshd[4069]: Failed password for invalid user oracle from 203.0.113.66 port 38777 ssh2",
			`{"timestamp":"Mar  2 08:00:06","host":"web1","pid":4069,"result":"Failed","user":"oracle","ip":"203.0.113.66","port":38777}`},
		{`^%{SYSLOGTIMESTAMP} %{SYSLOGHOST} sshd\[%{POSINT}\]: %{SSH}`, map[string]string{"SSH": `%{WORD:result} %{SSH_METHOD:method} for %{USERNAME:user.name} from %{IP:[source][ip]}`, "SSH_METHOD": "password|publickey"},
			"Mar  2 08:00:06 web1 sshd[4069]: Accepted publickey for ann from 2001:db8::66 port 38777 ssh2",
			`{"result":"Accepted","method":"publickey","user.name":"ann","source.ip":"2001:db8::66"}`},
		{`^%{HTTPD_COMBINEDLOG}`, nil,
			`127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /apache_pb.gif HTTP/1.0" 200 2326 "http://www.example.com/start.html" "Mozilla/4.08 [en] (Win98; I ;Nav)"`,
			`{"source.address":"127.0.0.1","user.name":"frank","timestamp":"10/Oct/2000:13:55:36 -0700","http.request.method":"GET","url.original":"/apache_pb.gif","http.version":"1.0",
			"http.response.status_code":200,"http.response.body.size":2326,"http.request.referrer":"http://www.example.com/start.html","user_agent.original":"Mozilla/4.08 [en] (Win98; I ;Nav)"}`},
		{`^%{COMBINEDAPACHELOG}`, nil,
			`2001:db8::17 - - [02/Mar/2026:08:00:01 +0000] "\x16\x03\x01" 400 150 "-" "-"`,
			`{"source.address":"2001:db8::17","timestamp":"02/Mar/2026:08:00:01 +0000","http.response.status_code":400,"http.response.body.size":150}`},
		{`^%{HTTPD24_ERRORLOG}`, nil,
			`[Mon Mar 02 08:00:01.123456 2026] [authz_core:error] [pid 4711:tid 140] [client 203.0.113.66:51544] AH01630: client denied by server configuration: /var/www/secret`,
			`{"timestamp":"Mon Mar 02 08:00:01.123456 2026","apache.error.module":"authz_core","log.level":"error","process.pid":4711,"process.thread.id":140,"source.address":"203.0.113.66","source.port":51544,
			"error.code":"AH01630","message":"client denied by server configuration: /var/www/secret"}`},
		{`^%{SYSLOGLINE}`, nil,
			"2026-03-02T08:00:06.123+01:00 db1 postgres[12]: FATAL:  no pg_hba.conf entry",
			`{"timestamp":"2026-03-02T08:00:06.123+01:00","host.name":"db1","message":"FATAL:  no pg_hba.conf entry"}`},
		{`(?P<level>WARN|ERROR) (?<thread___name>\S+) took=%{NUMBER:took:float} ok=%{BOOL:ok:boolean} n=%{NOTSPACE:n:int}`, nil,
			"08:00 ERROR main-1 took=0.25 ok=true n=x1", `{"level":"ERROR","thread.name":"main-1","took":0.25,"ok":true,"n":"x1"}`},
		{`^%{A}`, map[string]string{"A": `a=%{INT:x}|b=%{INT:x:int}`}, "b=7", `{"x":7}`}, // a field may stand in both of two branches
		{`^[a[\](?P<x>){%]+ \%{ (?:\(?P<z>|%{WORD:w})`, nil, "a{% %{ b", `{"w":"b"}`},    // what is written in brackets or behind a backslash is no group
	} {
		f := grokFormat(t, x.pattern, x.own)
		var want map[string]any
		if err := json.Unmarshal([]byte(x.want), &want); err != nil {
			t.Fatalf("%v: %s", err, x.want)
		}
		if got := grokked(t, f, x.line); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s\n got %v\nwant %v", x.pattern, got, want)
		}
		checkFormat(t, f, x.line, "user", "source.ip", "timestamp")
	}
	if got := grokked(t, grokFormat(t, `%{INT:n:int} %{INT:m:int}`, nil).Typed(map[string]string{"n": "string", "m": "float"}), "1 2"); got["n"] != "1" || got["m"] != 2.0 {
		t.Errorf("declared types do not win: %v", got)
	}
}

// randomLine is a line of sshd or of a web server with its fields.
func randomLine(r *rand.Rand) (pattern, line string, want map[string]any) {
	pick := func(from ...string) string { return from[r.IntN(len(from))] }
	ip, user, host := randomAddress(r).String(), pick("root", "ann", "j.doe-1", "svc_backup"), pick("web1", "db-2.example.com", "A")
	at := time.Unix(1_700_000_000+r.Int64N(1e8), 0).UTC()
	if r.IntN(2) == 0 {
		pid, port, result := 1+r.IntN(99_999), 1+r.IntN(65_535), pick("Failed", "Accepted")
		stamp := at.Format("Jan _2 15:04:05")
		return `%{SYSLOGTIMESTAMP:time} %{SYSLOGHOST:host} sshd\[%{POSINT:pid:int}\]: %{WORD:result} password for %{USER:user} from %{IPORHOST:ip} port %{INT:port:int} ssh2`,
			fmt.Sprintf("%s %s sshd[%d]: %s password for %s from %s port %d ssh2", stamp, host, pid, result, user, ip, port),
			map[string]any{"time": stamp, "host": host, "pid": float64(pid), "result": result, "user": user, "ip": ip, "port": float64(port)}
	}
	stamp, method, path := at.Format("02/Jan/2006:15:04:05 -0700"), pick("GET", "POST"), "/"+pick("", "a/b", "index.php?id=1%27", "~x/%7e")
	status, agent := 100+r.IntN(500), pick("curl/8.5", "Mozilla/5.0 (X11; Linux x86_64)")
	return `%{COMBINEDAPACHELOG}`,
		fmt.Sprintf(`%s - %s [%s] "%s %s HTTP/1.1" %d %d "http://%s/" "%s"`, ip, user, stamp, method, path, status, 17, host, agent),
		map[string]any{"source.address": ip, "user.name": user, "timestamp": stamp, "http.request.method": method, "url.original": path, "http.version": "1.1",
			"http.response.status_code": float64(status), "http.response.body.size": 17.0, "http.request.referrer": "http://" + host + "/", "user_agent.original": agent}
}

func randomAddress(r *rand.Rand) netip.Addr {
	var b [16]byte
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	switch r.IntN(5) {
	case 0, 1:
		return netip.AddrFrom4([4]byte(b[:4]))
	case 2:
		clear(b[r.IntN(8):][:r.IntN(9)]) // so that there is ::
	case 3:
		return netip.AddrFrom16([16]byte{10: 0xff, 11: 0xff, 12: b[0], 13: b[1], 14: b[2], 15: b[3]}) // ::ffff:1.2.3.4
	case 4:
		return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 15: b[0]}).WithZone("eth0")
	}
	return netip.AddrFrom16(b)
}

// naive is a pattern with the library's own in the place of their names, those that are fields as groups: as long as that gets, and slow.
func naive(text string) *regexp.Regexp {
	use := regexp.MustCompile(`%\{(\w+)(?::([\w.]+))?(?::\w+)?\}`)
	for strings.Contains(text, "%{") {
		text = use.ReplaceAllStringFunc(text, func(x string) string {
			m := use.FindStringSubmatch(x)
			pattern, ok := patterns.Default[m[1]]
			if !ok {
				pattern = patterns.Httpd[m[1]]
			}
			if m[2] == "" {
				return "(?:" + pattern + ")"
			}
			return "(?P<" + strings.ReplaceAll(m[2], ".", "___") + ">" + pattern + ")"
		})
	}
	return regexp.MustCompile(text)
}

// Random lines have the fields that they were made of, and those that the library's patterns find as they are.
func TestGrokRandomLines(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	formats, theirs := map[string]*Format{}, map[string]*regexp.Regexp{}
	for range 500 {
		pattern, line, want := randomLine(r)
		if formats[pattern] == nil {
			formats[pattern], theirs[pattern] = grokFormat(t, "^"+pattern, nil), naive("^"+pattern)
		}
		if got := grokked(t, formats[pattern], line); !maps.Equal(got, want) {
			t.Fatalf("%s\n got %v\nwant %v", line, got, want)
		}
		library := map[string]any{}
		for i, text := range theirs[pattern].FindStringSubmatch(line) {
			if name := theirs[pattern].SubexpNames()[i]; name != "" && text != "" {
				library[strings.ReplaceAll(name, "___", ".")] = text
			}
		}
		if fmt.Sprint(library) != fmt.Sprint(want) {
			t.Fatalf("the library's patterns find other fields in %s\n%v\n%v", line, library, want)
		}
	}
}

// What the short patterns stand for matches all that the library's match, whole.
func TestGrokShort(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 2))
	const letters = "0123456789abcdefxyz::::....--%@_+"
	for name := range grokShort {
		theirs, ours := naive("^%{"+name+"}$"), grokFormat(t, "^%{"+name+":x}$", nil)
		matched := 0
		for i := range 20_000 {
			text := randomAddress(r).String()
			if i%2 > 0 {
				b := []byte(text[:r.IntN(len(text))])
				for range r.IntN(6) {
					b = append(b, letters[r.IntN(len(letters))])
				}
				text = string(b)
			}
			if zone, ok := zoned(text); !theirs.MatchString(text) || ok && !regexp.MustCompile(`^[\w.-]+$`).MatchString(zone) {
				continue // the library takes the rest of the line for a zone
			}
			matched++
			if got := grokked(t, ours, text); got == nil || got["x"] != text {
				t.Fatalf("%s does not match %q: %v", name, text, got)
			}
		}
		if matched < 1000 {
			t.Errorf("%s: only %d texts are to match", name, matched)
		}
	}
	for _, text := range []string{"08:00:01", "00:1b:44:11:3a:b7", "1.2.3", "a.b.c.d"} { // times and hardware addresses are none
		if got := grokked(t, grokFormat(t, "%{IP:x}", nil), text); got != nil {
			t.Errorf("%q is an address: %v", text, got)
		}
	}
}

func zoned(text string) (zone string, ok bool) {
	_, zone, ok = strings.Cut(text, "%")
	return zone, ok
}

// Every pattern of the library can be used.
func TestGrokNames(t *testing.T) {
	names := GrokNames()
	if len(names) < 200 {
		t.Errorf("%d patterns", len(names))
	}
	for _, name := range names {
		if _, err := Grok("%{"+name+":x}", nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestGrokFaults(t *testing.T) {
	big := map[string]string{"P0": strings.Repeat("x", 100)}
	for i := range 40 {
		big[fmt.Sprint("P", i+1)] = fmt.Sprintf("%%{P%d}%%{P%d}", i, i)
	}
	for _, x := range []struct {
		pattern      string
		own          map[string]string
		in, is, text string
	}{
		{"%{IPP:x}", nil, "", "IPP", "%{IPP:x}: there is no pattern IPP"},
		{"%{A:x}", map[string]string{"A": "%{B}", "B": "%{NUMBR:y}"}, "B", "NUMBR", "%{NUMBR:y}: there is no pattern NUMBR"},
		{"%{A:x}", map[string]string{"A": "%{B}", "B": "b%{A}"}, "A", "", "it is made of itself: A, B, A"},
		{"%{INT:x}", map[string]string{"INT": "%{INT}"}, "INT", "", "it is made of itself: INT, INT"},
		{"%{INT:x:number}", nil, "", "", `%{INT:x:number}: type "number" is none of string, int, long, float, double, bool, boolean`},
		{"a %{INT x} b", nil, "", "", `%{INT x} is not %{NAME}, %{NAME:field} or %{NAME:field:type}; a brace that is meant is \{`},
		{"%{INT", nil, "", "", `%{INT is not %{NAME}, %{NAME:field} or %{NAME:field:type}; a brace that is meant is \{`},
		{"[%{INT:x}]", nil, "", "", "%{INT:x} stands in brackets, where it is no pattern"},
		{"%{INT}", nil, "", "", "nothing becomes a field; write %{NAME:field}"},
		{"(%{INT:x}", nil, "", "", "error parsing regexp: missing closing ): `((?:)`"},
		{"%{INT:x}", map[string]string{"UNUSED": "(?<!a)b"}, "UNUSED", "", "error parsing regexp: invalid named capture: `(?<!a)b`"},
		{"%{P40:x}", big, "", "", "it stands for more than 65536 bytes"},
		{strings.Repeat("(", 1001) + strings.Repeat(")", 1001), nil, "", "", "error parsing regexp: expression nests too deeply: `"},
		{strings.Repeat("x", patternMax+1), nil, "", "", "a pattern of 16385 bytes, the limit is 16384"},
		{"(?:%{A:x}){1000}", map[string]string{"A": "a{1000}"}, "", "", "what it stands for is no regular expression: invalid repeat count"},
	} {
		_, err := Grok(x.pattern, x.own)
		e, ok := err.(*GrokError)
		if !ok || !strings.HasPrefix(e.Text, x.text) || e.Name != x.is || (e.In != x.in && len(x.own) < 10) {
			t.Errorf("%.40q: %+v, want %s", x.pattern, err, x.text)
		}
	}
}

// No pattern is too strange.
func FuzzGrok(f *testing.F) {
	for _, s := range []string{"%{INT:x}", "^%{HTTPD_COMBINEDLOG}", `[%{A}](?P<y>\)%{A:[a][b]:int}`, "%{A:x}%{A:x}", "(?<a>x)", "%{"} {
		f.Add(s, "a%{INT:y}", "12 a7")
	}
	f.Fuzz(func(t *testing.T, pattern, own, line string) {
		format, err := Grok(pattern, map[string]string{"A": own})
		if err != nil {
			if _, ok := err.(*GrokError); !ok {
				t.Fatalf("%T", err)
			}
			return
		}
		checkFormat(t, format, string(Mend([]byte(line))), "x", "y")
	})
}
