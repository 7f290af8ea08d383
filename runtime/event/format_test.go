package event

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// formatted projects one line onto paths.
func formatted(f *Format, line string, paths ...string) (*Projection, *Batch, error) {
	fields := &Fields{}
	var want []Field
	for _, p := range paths {
		want = append(want, fields.Add(p))
	}
	p := f.Projection(fields, want)
	b := p.NewBatch()
	return p, b, p.Append(b, []byte(line))
}

// checkFormat holds a line's ways out against each other: the object is JSON, and each path means in the line what it means in the
// object, by the JSON scanner and by encoding/json. It returns the object's members.
func checkFormat(t *testing.T, f *Format, line string, paths ...string) map[string]any {
	t.Helper()
	paths = append(slices.Clone(paths), Raw, Whole)
	p, b, err := formatted(f, line, paths...)
	object := p.Object([]byte(line))
	if err != nil {
		if object != nil || b.Rows != 0 {
			t.Fatalf("%s: %q: %v, and yet %q and %d rows", f.Name, line, err, object, b.Rows)
		}
		if _, ok := err.(*SyntaxError); !ok || strings.Contains(err.Error(), "\n") {
			t.Fatalf("%s: %q: %v", f.Name, line, err)
		}
		return nil
	}
	if few, _, _ := formatted(f, line); !bytes.Equal(few.Object([]byte(line)), object) {
		t.Fatalf("%s: %q depends on what is read: %q, %q", f.Name, line, few.Object([]byte(line)), object)
	}
	var members map[string]any
	if err := json.Unmarshal(object, &members); err != nil || len(members) == 0 {
		t.Fatalf("%s: %q is %q: %v", f.Name, line, object, err)
	}
	keys := map[string]bool{}
	Members(object, func(name, _ []byte) {
		if keys[string(name)] {
			t.Fatalf("%s: %q has %q twice: %q", f.Name, line, name, object)
		}
		keys[string(name)] = true
	})
	for name := range members { // a path for each field, with its dots as they are
		paths = append(paths, strings.NewReplacer(`\`, `\\`, ".", `\.`).Replace(name))
	}
	slices.Sort(paths)
	paths = slices.Compact(paths)
	_, b, err = formatted(f, line, paths...)
	if err != nil {
		t.Fatal(err)
	}
	js, fields, err := project(object, paths...)
	if err != nil {
		t.Fatal(err)
	}
	for i, path := range paths {
		got, want := b.Value(fields[i], 0), js.Value(fields[i], 0)
		if got.Kind != want.Kind || !bytes.Equal(got.Text, want.Text) {
			t.Fatalf("%s: %q: %s is %s %q in the line, and %s %q in %q", f.Name, line, path, got.Kind, got.Text, want.Kind, want.Text, object)
		}
	}
	return members
}

// has compares the members but raw with a list of name=value, in any order.
func has(t *testing.T, f *Format, line, want string) {
	t.Helper()
	members := checkFormat(t, f, line)
	if members == nil {
		_, _, err := formatted(f, line)
		if got := "! " + err.Error(); got != want {
			t.Errorf("%s: %q: %s\nwant %s", f.Name, line, got, want)
		}
		return
	}
	var got []string
	for name, v := range members {
		switch {
		case name != Raw:
			got = append(got, fmt.Sprintf("%s=%v", name, v))
		case v != line:
			t.Errorf("%s: %q: raw is %q", f.Name, line, v)
		}
	}
	parts := strings.Split(want, "; ")
	slices.Sort(got)
	if slices.Sort(parts); !slices.Equal(got, parts) {
		t.Errorf("%s: %q:\n%s\nwant\n%s", f.Name, line, strings.Join(got, "; "), strings.Join(parts, "; "))
	}
}

func csvFormat(t testing.TB, columns ...string) *Format {
	f, err := CSV(columns, ',')
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func syslog(t testing.TB) *Format {
	f, err := Syslog(`^(?P<what>Failed|Accepted) password for (?P<user>\S+)|(?P<app>SELF)`)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// checkCSV compares a line with encoding/csv, which also reads on in the next line.
func checkCSV(t *testing.T, line string) {
	t.Helper()
	line = strings.NewReplacer("\r", "", "\n", "").Replace(strings.ToValidUTF8(line, "?"))
	if line == "" {
		return // a blank line, which inputs skip
	}
	columns := []string{"a", "b", "c"}
	r := csv.NewReader(strings.NewReader(line))
	want, werr := r.Read()
	if werr == nil && len(want) != len(columns) {
		werr = csv.ErrFieldCount
	}
	for _, n := range []int{0, 1, 3} { // how many are read must not matter
		_, b, err := formatted(csvFormat(t, columns...), line, columns[:n]...)
		if (err == nil) != (werr == nil) {
			t.Fatalf("%q: %v, encoding/csv says %v", line, err, werr)
		}
		for i := 0; i < n && err == nil; i++ {
			if v := b.Value(Field(i), 0); string(v.Text) != want[i] || v.Kind != String {
				t.Fatalf("%q: %d is %q, want %q", line, i, v.Text, want[i])
			}
		}
	}
	checkFormat(t, csvFormat(t, columns...), line, columns...)
}

func TestCSV(t *testing.T) {
	for _, line := range []string{"1,2,3", ",,", `"a ""quoted"" one",b,"c,d"`, `a,b`, `a,b,c,d`, `"a,b,c`, `"a"b,c,d`, `a"b,c,d`, ` "a",b,c`, `"","",""`, `"""",b,c`, `a,b,"`, "é,ü,\u2028"} {
		checkCSV(t, line)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	for range 20_000 {
		line := make([]byte, 1+rnd.IntN(12))
		for i := range line {
			line[i] = `ab ,,""";.`[rnd.IntN(10)]
		}
		checkCSV(t, string(line))
	}
	if m := checkFormat(t, csvFormat(t, "a", "raw"), "x,y"); m["raw"] != "y" { // the line's own field of that name is the one that counts
		t.Errorf("%v", m)
	}
}

func TestCSVHeader(t *testing.T) {
	f, err := CSV(nil, ';')
	if err != nil || !f.NeedsHeader() {
		t.Fatal(err)
	}
	under, err := f.WithHeader([]byte("time; \"the user\" ;\"n.x\"\r\n"))
	if err == nil {
		t.Fatalf("a space behind a quote: %v", under)
	}
	if under, err = f.WithHeader([]byte("time; user ;\"n.x\"\r\n")); err != nil || under.NeedsHeader() {
		t.Fatal(err)
	}
	has(t, under.Typed(map[string]string{`n\.x`: "int", "user": "bool"}), "1;true;7", "time=1; user=true; n.x=7")
	has(t, under.Typed(map[string]string{"n.x": "float"}), "1;2;0x7", "time=1; user=2; n.x=0x7")
	for _, bad := range []string{"a;;b", "a;a", `a;"b`, strings.Repeat("a;", columnsMax) + "b"} {
		if _, err := f.WithHeader([]byte(bad)); err == nil {
			t.Errorf("%.40q is no header", bad)
		}
	}
	if _, err := CSV(nil, '"'); err == nil {
		t.Error("a quote parts nothing")
	}
}

func TestTypedFieldsAreNumbers(t *testing.T) {
	f := csvFormat(t, "n", "b", "s").Typed(map[string]string{"n": "int", "b": "bool", "s": "string"})
	_, b, err := formatted(f, "5,false,6", "n", "b", "s")
	if err != nil || b.Value(0, 0).Kind != Number || b.Value(1, 0).Kind != Bool || b.Value(2, 0).Kind != String {
		t.Errorf("%v %v", b.Cols, err)
	}
	if _, b, _ = formatted(f, "007,yes,6", "n", "b"); b.Value(0, 0).Kind != String || b.Value(1, 0).Kind != String {
		t.Errorf("%v", b.Cols)
	}
}

func TestLogfmt(t *testing.T) {
	for line, want := range map[string]string{
		`at=info method=GET path=/ fwd="1.2.3.4" status=200`: "at=info; method=GET; path=/; fwd=1.2.3.4; status=200",
		`level=info msg="say \"hi\"\n\u00e9" tls url=/x?a=b`: "level=info; msg=say \"hi\"\né; tls=true; url=/x?a=b",
		`a= b=""  c=1 a=2`: "a=2; b=; c=1",
		`a.b=1 raw=x`:      "a.b=1",
		`hello world`:      "! no key=value at byte 0",
		`a=1 ="x"`:         "! a key must come here at byte 4",
		`a="x`:             "! a string without end at byte 4",
		`a="x"y`:           "! a space must come behind a value in quotes at byte 5",
		`a="\x"`:           "! an escape that JSON does not know at byte 3",
		`"a"=1`:            "! a key must come here at byte 0",
		`é=ü`:              "é=ü",
	} {
		if strings.Contains(line, "raw=") {
			if m := checkFormat(t, Logfmt(), line); m["raw"] != "x" || m["a.b"] != "1" {
				t.Errorf("%v", m)
			}
			continue
		}
		has(t, Logfmt(), line, want)
	}
}

// The examples of RFC 5424, section 6.5, and of RFC 3164, section 5.4, and what daemons write to files.
func TestSyslog(t *testing.T) {
	for line, want := range map[string]string{
		"<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - \ufeff'su root' failed for lonvick on /dev/pts/8":                                                                 "facility=auth; facility_code=4; severity=crit; severity_code=2; timestamp=2003-10-11T22:14:15.003Z; host=mymachine.example.com; app=su; msgid=ID47; message='su root' failed for lonvick on /dev/pts/8",
		"<165>1 2003-08-24T05:14:15.000003-07:00 192.0.2.1 myproc 8710 - - %% It's time to make the do-nuts.":                                                                               "facility=local4; facility_code=20; severity=notice; severity_code=5; timestamp=2003-08-24T05:14:15.000003-07:00; host=192.0.2.1; app=myproc; pid=8710; message=%% It's time to make the do-nuts.",
		`<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 [exampleSDID@32473 iut="3" eventSource="Application" eventID="1011"] ` + "An application event log entry...": "facility=local4; facility_code=20; severity=notice; severity_code=5; timestamp=2003-10-11T22:14:15.003Z; host=mymachine.example.com; app=evntslog; msgid=ID47; structured_data.exampleSDID@32473.iut=3; structured_data.exampleSDID@32473.eventSource=Application; structured_data.exampleSDID@32473.eventID=1011; message=An application event log entry...",
		`<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 [exampleSDID@32473 iut="3" eventSource="Application" eventID="1011"][examplePriority@32473 class="high"]`:    "facility=local4; facility_code=20; severity=notice; severity_code=5; timestamp=2003-10-11T22:14:15.003Z; host=mymachine.example.com; app=evntslog; msgid=ID47; structured_data.exampleSDID@32473.iut=3; structured_data.exampleSDID@32473.eventSource=Application; structured_data.exampleSDID@32473.eventID=1011; structured_data.examplePriority@32473.class=high",
		`<0>1 - - - - - [a][b.c x="\"\\\]\n"] `:                                                      `facility=kern; facility_code=0; severity=emerg; severity_code=0; structured_data.b.c.x="\]\n; message=`,
		"<34>Oct 11 22:14:15 mymachine su: 'su root' failed for lonvick on /dev/pts/8":               "facility=auth; facility_code=4; severity=crit; severity_code=2; timestamp=Oct 11 22:14:15; host=mymachine; app=su; message='su root' failed for lonvick on /dev/pts/8",
		"<13>Feb  5 17:32:18 10.0.0.99 Use the BFG!":                                                 "facility=user; facility_code=1; severity=notice; severity_code=5; timestamp=Feb  5 17:32:18; host=10.0.0.99; message=Use the BFG!",
		"Mar  2 08:00:01 web1 sshd[4711]: Failed password for root from 203.0.113.66 port 4242 ssh2": "timestamp=Mar  2 08:00:01; host=web1; app=sshd; pid=4711; what=Failed; user=root; message=Failed password for root from 203.0.113.66 port 4242 ssh2",
		"2026-03-02T08:00:01.123456+01:00 web1 systemd[1]: Started.":                                 "timestamp=2026-03-02T08:00:01.123456+01:00; host=web1; app=systemd; pid=1; message=Started.",
		"Mar  2 08:00:01 web1":           "timestamp=Mar  2 08:00:01; host=web1; message=",
		"Mar  2 08:00:01":                "timestamp=Mar  2 08:00:01; message=",
		"Mar  2 08:00:01 web1 CRON[1: x": "timestamp=Mar  2 08:00:01; host=web1; message=CRON[1: x",
		"<192>1 - - - - - -":             "! the priority must be <0> to <191> at byte 1",
		"<>Mar  2 08:00:01 a b: c":       "! the priority must be <0> to <191> at byte 1",
		"<1>1 - - - - - x":               "! structured data must come here: - or [ at byte 15",
		`<1>1 - - - - - [a b="c]`:        "! a quote without its other half at byte 20",
		`<1>1 - - - - - [a b=c]`:         `! name="value" must come here at byte 19`,
		`<1>1 - - - - - [a b="c"`:        "! ] must come here at byte 23",
		"<1>1 - - -":                     "! app must come here, and a space at byte 9",
		"Mra  2 08:00:01 a b: c":         "! a time must come here, such as Jan  2 15:04:05 at byte 0",
		"hello":                          "! a time must come here, such as Jan  2 15:04:05 at byte 0",
		"12 monkeys":                     "! a time must come here at byte 0",
	} {
		has(t, syslog(t), line, want)
	}
	_, b, err := formatted(syslog(t), `<165>1 - - - - - [ex.a@1 iut="3"] x`, "structured_data.ex\\.a@1.iut", "structured_data.ex.a@1.iut")
	if err != nil || string(b.Value(0, 0).Text) != "3" || string(b.Value(1, 0).Text) != "3" {
		t.Errorf("%v %v", b.Cols, err)
	}
}

func TestCEF(t *testing.T) {
	head := "version=0; device_vendor=Security; device_product=threatmanager; device_version=1.0; event_class_id=100; name=worm successfully stopped; severity=10; "
	for line, want := range map[string]string{
		"CEF:0|Security|threatmanager|1.0|100|worm successfully stopped|10|src=10.0.0.1 dst=2.1.2.2 spt=1232":                                                  head + "src=10.0.0.1; dst=2.1.2.2; spt=1232",
		"Sep 19 08:26:10 host CEF:0|Security|threatmanager|1.0|100|worm successfully stopped|10|msg=two words  spt=1":                                          head + "msg=two words; spt=1; timestamp=Sep 19 08:26:10; host=host",
		"<134>2026-03-02T08:00:00Z fw CEF:0|Security|threatmanager|1.0|100|worm successfully stopped|10|":                                                      head + "timestamp=2026-03-02T08:00:00Z; host=fw; facility=local0; facility_code=16",
		`CEF:0|security|threat\|manager|1.0|a\\b|detected a \| in message|10|act=blocked a \= b request=http://x/?a=b&c=d e cs1Label=x\ny name=no ad.key[0]=1`: `version=0; device_vendor=security; device_product=threat|manager; device_version=1.0; event_class_id=a\b; name=detected a | in message; severity=10; act=blocked a = b; request=http://x/?a=b&c=d e; cs1Label=x` + "\n" + `y; ad.key[0]=1`,
		"CEF:0|a|b|c|d|e":             "! a bar must come behind name at byte 14",
		"CEF:0|a|b|c|d|e|5|loose":     "! a key must come here at byte 18",
		"CEF:0|a|b|c|d|e|5|loose a=b": "! a key must come here at byte 18",
		"LEEF:1.0|":                   "! no CEF: at byte 0",
		"CEF:0|a|b|c|d|e|5|a=b=c d=":  "version=0; device_vendor=a; device_product=b; device_version=c; event_class_id=d; name=e; severity=5; a=b=c; d=",
	} {
		if strings.HasPrefix(line, "<134>") {
			// of the two severities the format's own counts
			want += "; severity_code=6"
		}
		has(t, CEF(), line, want)
	}
}

func TestLEEF(t *testing.T) {
	head := "vendor=Microsoft; product=MSExchange; product_version=4.0 SP1; event_id=15345; "
	for line, want := range map[string]string{
		"LEEF:1.0|Microsoft|MSExchange|4.0 SP1|15345|src=192.0.2.0\tdst=172.50.123.1\tsev=5\tmsg=a=b c":              head + "version=1.0; src=192.0.2.0; dst=172.50.123.1; sev=5; msg=a=b c",
		"Jan 18 11:07:53 192.168.1.1 LEEF:2.0|Microsoft|MSExchange|4.0 SP1|15345|^|src=192.0.2.0^dst=172.50.123.1^^": head + "version=2.0; src=192.0.2.0; dst=172.50.123.1; timestamp=Jan 18 11:07:53; host=192.168.1.1",
		"LEEF:2.0|Microsoft|MSExchange|4.0 SP1|15345|x09|src=1\tdst=2":                                               head + "version=2.0; src=1; dst=2",
		"LEEF:2.0|Microsoft|MSExchange|4.0 SP1|15345|0x7c|src=1|dst=2":                                               head + "version=2.0; src=1; dst=2",
		"LEEF:2.0|Microsoft|MSExchange|4.0 SP1|15345||src=1\tvendor=2":                                               head + "version=2.0; src=1",
		"LEEF:2.0|Microsoft|MSExchange|4.0 SP1|15345|src=1\tdst=2":                                                   head + "version=2.0; src=1; dst=2",
		"LEEF:2.0|Microsoft|MSExchange|4.0 SP1|15345|zz|src=1":                                                       "! the delimiter must be one character, or its number such as x09 at byte 44",
		"LEEF:1.0|Microsoft|MSExchange|4.0 SP1|15345|src":                                                            "! key=value must come here at byte 44",
		"LEEF:1.0|Microsoft": "! a bar must come behind vendor at byte 9",
	} {
		has(t, LEEF(), line, want)
	}
}

func TestCombined(t *testing.T) {
	for line, want := range map[string]string{
		`127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /apache_pb.gif HTTP/1.0" 200 2326 "http://www.example.com/start.html" "Mozilla/4.08 [en] (Win98; I ;Nav)"`: `client=127.0.0.1; user=frank; timestamp=10/Oct/2000:13:55:36 -0700; request=GET /apache_pb.gif HTTP/1.0; method=GET; path=/apache_pb.gif; protocol=HTTP/1.0; status=200; bytes=2326; referrer=http://www.example.com/start.html; agent=Mozilla/4.08 [en] (Win98 I ;Nav)`,
		`::1 - two words [10/Oct/2000:13:55:36 -0700] "-" 408 -`:      `client=::1; user=two words; timestamp=10/Oct/2000:13:55:36 -0700; status=408`,
		`a - - [t] "\x16\x03\x01" 400 226 "-" "say \"hi\" \q" 0.01 x`: `client=a; timestamp=t; request=` + "\x16\x03\x01" + `; status=400; bytes=226; agent=say "hi" \q; rest=0.01 x`,
		`a - - [t] "GET /a b HTTP/1.1" 200 1`:                         `client=a; timestamp=t; request=GET /a b HTTP/1.1; method=GET; path=/a b; protocol=HTTP/1.1; status=200; bytes=1`,
		`a - - [t] "\xff" 200 1`:                                      `client=a; timestamp=t; request=` + "\ufffd" + `; status=200; bytes=1`,
		`a - - [t "x" 200 1`:                                          "! a time without ] at byte 6",
		`a - -`:                                                       "! user must come here, and a space at byte 4",
		`a - - [t] "x" 2x0 1`:                                         "! status must be a number or - at byte 14",
		`a - - [t] "x 200 1`:                                          "! a quote without its other half at byte 10",
		`a - - [t] "x" 200 1 y`:                                       "! a space and a quote must come here at byte 19",
		`a - - [t] "x\`:                                               "! a quote without its other half at byte 10",
	} {
		if strings.Contains(line, "(Win98; I") { // the list of what is wanted is cut at "; "
			if m := checkFormat(t, Combined(), line); m["agent"] != "Mozilla/4.08 [en] (Win98; I ;Nav)" || m["status"] != 200.0 || m["path"] != "/apache_pb.gif" || len(m) != 12 {
				t.Errorf("%v", m)
			}
			continue
		}
		has(t, Combined(), line, want)
	}
}

func TestRegex(t *testing.T) {
	f, err := Regex(`^(?P<user>\S+) (?<what>in|out)(?: from (?P<ip>\S+))?( unnamed)?$`)
	if err != nil {
		t.Fatal(err)
	}
	has(t, f, "ann in from ::1", "user=ann; what=in; ip=::1")
	has(t, f, "ann out unnamed", "user=ann; what=out")
	has(t, f, "ann up", "! the pattern does not match at byte 0")
	for _, bad := range []string{"a(", "^(a)$", strings.Repeat("a", patternMax+1)} {
		if _, err := Regex(bad); err == nil {
			t.Errorf("%.20q is no pattern", bad)
		}
	}
}

// Many fields of a line cost no more than a look each.
func TestManyFields(t *testing.T) {
	var line strings.Builder
	for i := range 50_000 {
		fmt.Fprintf(&line, "k%d=%d ", i%40_000, i)
	}
	fields := &Fields{}
	p := Logfmt().Projection(fields, []Field{fields.Add(Whole), fields.Add("k7")})
	b := p.NewBatch()
	if err := p.Append(b, []byte(line.String())); err != nil {
		t.Fatal(err)
	}
	n := 0
	Members(b.Value(0, 0).Text, func(name, value []byte) {
		if n++; string(name) == "k7" && string(value) != `"40007"` {
			t.Errorf("k7 is %s", value)
		}
	})
	if n != 40_001 || string(b.Value(1, 0).Text) != "40007" || b.Duplicates != 1 {
		t.Errorf("%d fields, %d duplicates, k7 is %s", n, b.Duplicates, b.Value(1, 0).Text)
	}
}

func TestUndo(t *testing.T) {
	f := csvFormat(t, "a", "b")
	p, b, _ := formatted(f, "1,2", "a", "b")
	p.Append(b, []byte("3,4"))
	b.Undo()
	p.Append(b, []byte("55,66"))
	if b.Rows != 2 || string(b.Value(0, 0).Text) != "1" || string(b.Value(1, 1).Text) != "66" {
		t.Errorf("%v", b.Cols)
	}
}

// Times without a year are of the last year before their line was written, or a little ahead.
func TestTimesWithoutYear(t *testing.T) {
	at := func(s string) int64 {
		v, err := time.Parse("2006-01-02 15:04:05", s)
		if err != nil {
			t.Fatal(err)
		}
		return v.UnixMilli()
	}
	for _, x := range []struct{ format, text, near, want string }{
		{"syslog", "Dec 31 23:59:59", "2026-01-01 00:00:10", "2025-12-31 23:59:59"},
		{"syslog", "Jan  1 00:00:01", "2025-12-31 23:59:00", "2026-01-01 00:00:01"},
		{"syslog", "Jan  7 23:59:59", "2026-01-01 00:00:00", "2026-01-07 23:59:59"},
		{"syslog", "Jan  8 00:00:01", "2026-01-01 00:00:00", "2025-01-08 00:00:01"},
		{"syslog", "Mar  2 11:00:00", "2026-11-26 00:00:00", "2026-03-02 11:00:00"},
		{"syslog", "Jul  3 12:00:00", "2026-01-01 00:00:00", "2025-07-03 12:00:00"},
		{"syslog", "Feb 29 12:00:00", "2025-03-02 00:00:00", "2024-02-29 12:00:00"},
		{"syslog", "Feb 29 12:00:00", "2027-03-02 00:00:00", "2024-02-29 12:00:00"},
		{"syslog", "Feb 29 12:00:00", "1899-12-02 00:00:00", "1896-02-29 12:00:00"},
		{"syslog", "2026-03-02T08:00:00Z", "1999-03-02 00:00:00", "2026-03-02 08:00:00"},
		{"Jan 2 15:04:05.000", "Dec 31 23:59:59.000", "2026-01-01 00:00:10", "2025-12-31 23:59:59"},
		{"02/01 15:04:05", "29/02 00:00:00", "2023-06-01 00:00:00", "2020-02-29 00:00:00"},
	} {
		f, err := NewTimeFormat(x.format, "")
		if err != nil || !f.NeedsYear() {
			t.Fatal(err)
		}
		got, err := f.Near(str(x.text), at(x.near))
		if err != nil || got != at(x.want) {
			t.Errorf("%q near %s: %s %v, want %s", x.text, x.near, AppendTime(nil, got), err, x.want)
		}
	}
	f, _ := NewTimeFormat("syslog", "Europe/Berlin")
	if got, _ := f.Near(str("Jul  2 12:00:00"), at("2026-07-01 00:00:00")); got != at("2026-07-02 10:00:00") {
		t.Errorf("in Berlin: %s", AppendTime(nil, got))
	}
	for _, bad := range []string{"Feb 30 00:00:00", "Jan  0 00:00:00", "Jan  1 24:00:00", "Jan 1 00:00:00", "Xxx  1 00:00:00", "Jan  x 00:00:00", "Jan  1 00:60:00"} {
		if _, err := f.Near(str(bad), 0); err == nil {
			t.Errorf("%q is no time", bad)
		}
	}
}

// Any line is an event, whose paths mean what they mean in its object, or has a fault.
func FuzzFormats(f *testing.F) {
	for _, s := range []string{`a,"b ""c""",d`, `a=b c="d\n" e`, `<34>1 - h a p m [x y="z"] t`, "<34>Oct 11 22:14:15 m su[1]: x", "CEF:0|a|b|c|d|e|f|g=h i j=k", "x LEEF:2.0|a|b|c|d|^|e=f^g=h",
		`1 - - [t] "GET / HTTP/1.1" 200 5 "-" "a\"b"`, "ann in"} {
		f.Add(s)
	}
	pattern, err := Regex(`(?P<user>\S+) (?P<what>.*)`)
	if err != nil {
		f.Fatal(err)
	}
	formats := []*Format{csvFormat(f, "a", "b", "c"), syslog(f), CEF(), LEEF(), Logfmt(), Combined(), pattern}
	f.Fuzz(func(t *testing.T, line string) {
		line = string(Mend([]byte(line))) // as the engine does before
		for _, format := range formats {
			checkFormat(t, format, line, "a", "user", "message", "structured_data.x.y", "severity")
		}
		checkCSV(t, line)
		if header, err := CSV(nil, ','); err == nil {
			if under, err := header.WithHeader([]byte(line)); err == nil {
				checkFormat(t, under, line, "a")
			}
		}
	})
}

// Lines of about 150 bytes, with the fields that a rule reads.
func BenchmarkFormats(b *testing.B) {
	pattern, err := Regex(`^(?P<timestamp>\w{3} [ \d]\d [\d:]{8}) (?P<host>\S+) sshd\[(?P<pid>\d+)\]: (?P<what>Failed|Accepted) password for (?:invalid user )?(?P<user>\S+) from (?P<ip>[0-9a-fA-F.:]+) port (?P<port>\d+)`)
	if err != nil {
		b.Fatal(err)
	}
	var columns []string
	for i := range 10 {
		columns = append(columns, "c"+strconv.Itoa(i))
	}
	plain, err := Syslog("")
	if err != nil {
		b.Fatal(err)
	}
	for _, x := range []struct {
		name   string
		format *Format
		line   string
		reads  []string
	}{
		{"csv", csvFormat(b, columns...), "2026-03-02T08:00:01Z,web1,203.0.113.66,ann,failure,password,ssh,4242,Frankfurt am Main,1772438401-0000-4a7c-9e53-b3d1c8a2f604-abcdefgh", []string{"c0", "c2", "c3", "c4"}},
		{"csv_quoted", csvFormat(b, columns...), `2026-03-02T08:00:01Z,web1,203.0.113.66,"ann, the ""admin""",failure,password,ssh,4242,"Frankfurt, am Main",1772438401-0000-4a7c-9e53-b3d1c8a2f604`, []string{"c0", "c2", "c3", "c4"}},
		{"syslog3164", plain, "Mar  2 08:00:01 web1 sshd[4711]: Failed password for invalid user administrator from 203.0.113.66 port 4242 ssh2, session 1772438401-0000-4a7c", []string{"timestamp", "host", "app", "message"}},
		{"syslog3164_pattern", syslog(b), "Mar  2 08:00:01 web1 sshd[4711]: Failed password for invalid user administrator from 203.0.113.66 port 4242 ssh2, session 1772438401-0000-4a7c", []string{"timestamp", "host", "app", "message"}},
		{"syslog5424", plain, `<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 [exampleSDID@32473 iut="3" eventSource="Application" eventID="1011"] An application event`, []string{"timestamp", "host", "app", "message", "structured_data.exampleSDID@32473.iut"}},
		{"syslog5424_pattern", syslog(b), `<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 [exampleSDID@32473 iut="3" eventSource="Application" eventID="1011"] An application event`, []string{"timestamp", "host", "app", "message", "structured_data.exampleSDID@32473.iut"}},
		{"regex", pattern, "Mar  2 08:00:01 web1 sshd[4711]: Failed password for invalid user administrator from 203.0.113.66 port 4242 ssh2, session 1772438401-0000-4a7c", []string{"timestamp", "host", "user", "ip"}},
		{"grok", grokFormat(b, `^%{SYSLOGTIMESTAMP:timestamp} %{SYSLOGHOST:host} sshd\[%{POSINT:pid}\]: %{WORD:what} password for (?:invalid user )?%{USERNAME:user} from %{IP:ip} port %{INT:port}`, nil), "Mar  2 08:00:01 web1 sshd[4711]: Failed password for invalid user administrator from 203.0.113.66 port 4242 ssh2, session 1772438401-0000-4a7c", []string{"timestamp", "host", "user", "ip"}},
		{"grok_combined", grokFormat(b, "^%{HTTPD_COMBINEDLOG}", nil), `127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /apache_pb.gif HTTP/1.0" 200 2326 "http://www.example.com/start.html" "Mozilla/4.08 [en] (Win98; I ;Nav)"`, []string{"timestamp", "source.address", "url.original", "http.response.status_code"}},
		{"cef", CEF(), "CEF:0|Security|threatmanager|1.0|100|worm successfully stopped|10|src=10.0.0.1 dst=2.1.2.2 spt=1232 msg=the quick brown fox jumps over the lazy dog act=blocked", []string{"src", "act", "severity"}},
		{"leef", LEEF(), "LEEF:1.0|Microsoft|MSExchange|4.0 SP1|15345|src=192.0.2.0\tdst=172.50.123.1\tsev=5\tcat=anomaly\tsrcPort=81\tdstPort=21\tusrName=joe.black\tmsg=the quick brown fox", []string{"src", "usrName", "event_id"}},
		{"logfmt", Logfmt(), `ts=2026-03-02T08:00:01Z level=info msg="login failed" user=ann ip=203.0.113.66 port=4242 method=password session=1772438401-0000-4a7c-9e53-b3d1c8a2f604`, []string{"ts", "user", "ip"}},
		{"combined", Combined(), `127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /apache_pb.gif HTTP/1.0" 200 2326 "http://www.example.com/start.html" "Mozilla/4.08 [en] (Win98; I ;Nav)"`, []string{"timestamp", "client", "path", "status"}},
	} {
		b.Run(x.name, func(b *testing.B) {
			fields := &Fields{}
			var want []Field
			for _, path := range x.reads {
				want = append(want, fields.Add(path))
			}
			p := x.format.Projection(fields, want)
			batch := p.NewBatch()
			line := []byte(x.line)
			b.ReportAllocs()
			for b.Loop() {
				if batch.Rows == 4096 {
					batch.Reset()
				}
				if err := p.Append(batch, line); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
