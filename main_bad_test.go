package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/big"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// What logs should not hold, through every operator, against maps, math/big and encoding/json.

// badRow is an event of the model: its columns as JSON has them, the last of those that stand twice.
type badRow map[string]json.RawMessage

var jsonNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)

// rat is the number that a cell holds, also as a text if that is allowed; nil if it is none.
func rat(raw json.RawMessage, texts bool) *big.Rat {
	s := string(raw)
	if texts && len(s) > 0 && s[0] == '"' {
		_ = json.Unmarshal(raw, &s)
	}
	if !jsonNumber.MatchString(s) {
		return nil
	}
	r, _ := new(big.Rat).SetString(s)
	return r
}

// cell is a value by what it equals: numbers by value, texts decoded, all else by what is written. Missing is null.
func cell(raw json.RawMessage) string {
	if r := rat(raw, false); r != nil {
		return "number " + r.RatString()
	}
	switch {
	case len(raw) == 0 || string(raw) == "null":
		return "null"
	case raw[0] == '"':
		var s string
		_ = json.Unmarshal(raw, &s)
		return "text " + s
	}
	return string(raw)
}

// badValues draws rows of one millisecond whose keys and values are of the given kinds.
func badValues(r *rand.Rand, n int) (lines []string) {
	long := strings.Repeat("long ", 200_000) // a megabyte
	values := []string{"", "null", "0", "-0", "-0.0", "0e7", "1", "1.0", `"1"`, "10e-1", "9007199254740992", "9007199254740993", "9007199254740993.0", "9223372036854775807", "9223372036854775808", "9223372036854775809",
		"18446744073709551615", "18446744073709551615.0", "18446744073709551616", "1e400", "10e399", "1e-400", "-1e400", `"NaN"`, `"Infinity"`, `"-inf"`, `"0x10"`, `"1e3"`, "1000", `""`, "true", `"true"`, `{"a":1}`, `{"a": 1}`, "[1,2]", "[]",
		"\"\xff\xfe\"", `"\ufffd\ufffd"`, `"\ud800"`, `"\ufffd"`, `"\u0041"`, `"A"`, `"a"`, `"\u0000"`, `"é"`, `"e\u0301"`, strings.Repeat("[", 500) + strings.Repeat("]", 500)}
	for i := range n {
		k, v := values[r.IntN(len(values))], values[r.IntN(len(values))]
		if r.IntN(60) == 0 {
			k = []string{`"` + long + `"`, `"` + long[1:] + `"`}[r.IntN(2)]
		}
		line := fmt.Sprintf(`{"t":"2026-03-02T08:00:00.5Z","i":%d`, i)
		if r.IntN(10) == 0 {
			line += `,"k":"one","v":["of"],"v":"two"` // the last counts
		}
		if k != "" {
			line += `,"k":` + k
		} else if strings.Contains(line, `"k"`) {
			line += `,"k":null`
		}
		if v != "" {
			line += `,"v":` + v
		} else if strings.Contains(line, `"v"`) {
			line += `,"v":null`
		}
		lines = append(lines, line+"}")
	}
	return lines
}

func decoded(t *testing.T, lines []string) (rows []badRow) {
	t.Helper()
	for _, l := range lines {
		var row badRow
		if err := json.Unmarshal([]byte(l), &row); err != nil {
			t.Fatalf("%.100s: %v", l, err)
		}
		rows = append(rows, row)
	}
	return rows
}

// told is what a row says, its columns as cell has them, by name.
func told(operator string, columns map[string]string) string {
	var b strings.Builder
	b.WriteString(operator)
	for _, name := range slices.Sorted(maps.Keys(columns)) {
		v := strings.ReplaceAll(columns[name], `": `, `":`) // file_rows writes no white space
		if len(v) > 200 {
			v = fmt.Sprint(len(v), " bytes, ", v[:20], v[len(v)-20:])
		}
		fmt.Fprintf(&b, " %s=%s", name, v)
	}
	return b.String()
}

// aggregated works out the aggregates of by_key.
func aggregated(rows []badRow) map[string]string {
	out := map[string]string{"n": fmt.Sprint("number ", len(rows))}
	var present []json.RawMessage
	kinds := map[string]bool{}
	for _, row := range rows {
		if v := row["v"]; cell(v) != "null" {
			present = append(present, v)
			kinds[cell(v)] = true
		}
	}
	out["kinds"] = fmt.Sprint("number ", len(kinds))
	ordered := slices.DeleteFunc(slices.Clone(present), func(v json.RawMessage) bool { return rat(v, false) == nil && v[0] != '"' })
	slices.SortFunc(ordered, func(a, b json.RawMessage) int { // numbers before texts
		x, y := rat(a, false), rat(b, false)
		switch {
		case x != nil && y != nil:
			return x.Cmp(y)
		case x == nil && y == nil:
			return cmp.Compare(cell(a), cell(b))
		case x != nil:
			return -1
		}
		return 1
	})
	edge := func(list []json.RawMessage, at int) string {
		if len(list) == 0 {
			return "null"
		}
		return cell(list[at])
	}
	out["least"], out["most"] = edge(ordered, 0), edge(ordered, len(ordered)-1)
	out["earliest"], out["latest"] = edge(present, 0), edge(present, len(present)-1)
	some := "[]"
	if len(present) > 0 {
		var list []string
		for _, v := range present[:min(len(present), 3)] {
			list = append(list, cell(v))
		}
		some = fmt.Sprint(list)
	}
	if out["some"] = some; len(present) > 3 {
		out["truncated"] = "true"
	}
	out["total"] = total(present)
	return out
}

// total is the sum: of integers while they fit int64, of float64 from then on, in the order of arrival.
func total(values []json.RawMessage) string {
	whole, sum, f := true, new(big.Int), 0.0
	for _, v := range values {
		x := rat(v, true)
		if x == nil {
			continue
		}
		_, written := new(big.Int).SetString(strings.Trim(string(v), `"`), 10) // without point and exponent
		if more := new(big.Int).Add(sum, x.Num()); whole && written && x.Num().IsInt64() && more.IsInt64() {
			sum = more
			continue
		}
		if whole {
			whole = false
			f, _ = new(big.Float).SetInt(sum).Float64()
		}
		y, _ := x.Float64()
		f += y
	}
	switch {
	case whole:
		return "number " + sum.String()
	case math.IsInf(f, 0) || math.IsNaN(f):
		return "null"
	}
	return cell(json.RawMessage(strconv.FormatFloat(f, 'g', -1, 64)))
}

// expectedValues works out what the operators over values and partners say.
func expectedValues(rows, partners []badRow) (want []string) {
	add := func(operator string, columns map[string]string) { want = append(want, told(operator, columns)) }
	groups, mates, seen := map[string][]badRow{}, map[string][]badRow{}, map[string]bool{}
	var keys []string
	for _, p := range partners {
		mates[cell(p["k"])] = append(mates[cell(p["k"])], p)
	}
	at := time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC)
	window := func(start, end time.Time, more map[string]string) map[string]string {
		out := maps.Clone(more)
		out["window_start"], out["window_end"] = "text "+stamp(start), "text "+stamp(end)
		return out
	}
	for _, row := range rows {
		k, v, i := cell(row["k"]), cell(row["v"]), cell(row["i"])
		if groups[k] == nil {
			keys = append(keys, k)
		}
		if groups[k] = append(groups[k], row); len(groups[k])%2 == 0 {
			add("pairs_of", window(at.Add(500*time.Millisecond), at.Add(500*time.Millisecond), map[string]string{"k": k, "ids": fmt.Sprint([]string{cell(groups[k][len(groups[k])-2]["i"]), i})}))
		}
		if len(groups[k]) == 3 {
			add("at_three", window(at, at.Add(time.Minute), map[string]string{"k": k, "n": "number 3"}))
		}
		if k == "null" {
			add("lonely", map[string]string{"a": i})
		} else if len(mates[k]) == 0 {
			add("lonely", map[string]string{"a": i})
			add("unfollowed", map[string]string{"a": i})
		} else {
			for _, p := range mates[k] {
				add("joined", map[string]string{"a": i, "b": cell(p["i"])})
			}
			add("follows", map[string]string{"a": i, "b": cell(mates[k][0]["i"])})
		}
		if id := k + " " + v; k != "null" && v != "null" && !seen[id] {
			seen[id] = true
			add("news", map[string]string{"i": i})
		}
		x := rat(row["v"], true)
		if x != nil && x.Cmp(big.NewRat(9007199254740992, 1)) > 0 {
			add("large", map[string]string{"i": i})
		}
		if x != nil && x.IsInt() && x.Num().Cmp(new(big.Int).SetUint64(math.MaxUint64)) == 0 {
			add("exactly", map[string]string{"i": i})
		}
		if x != nil && x.IsInt() && x.Num().IsInt64() && x.Num().Int64() >= 1e9 {
			add("judged", map[string]string{"i": i})
		}
	}
	for _, k := range keys {
		n := map[string]string{"k": k, "n": fmt.Sprint("number ", len(groups[k]))}
		all := aggregated(groups[k])
		all["k"] = k
		add("by_key", window(at, at.Add(time.Minute), all))
		for s := range 3 {
			start := at.Add(time.Duration(s-2) * time.Second)
			add("sliding", window(start, start.Add(3*time.Second), n))
			add("growing", window(at, at.Add(time.Duration(s+1)*time.Second), n)) // 08:00:00 is a multiple of 3 s
		}
		add("visits", window(at.Add(500*time.Millisecond), at.Add(10_500*time.Millisecond), n))
	}
	return want
}

// expectedTimes works out what the operators over times say of rows that are in order but for those that are late at the end.
func expectedTimes(times []int64, late int) (want []string) {
	const minute, hour, day = 60_000, 3_600_000, 86_400_000
	floor := func(t, size int64) int64 { return t - ((t%size)+size)%size }
	days, longs := map[int64][]string{}, map[int64][]string{}
	var stays [][2]int64
	var ids [][]string
	for i, t := range times[:len(times)-late] {
		id := fmt.Sprint("number ", i)
		days[floor(t, day)] = append(days[floor(t, day)], id)
		for start := floor(t-hour, day) + hour; start+36*hour > t; start -= day {
			longs[start] = append(longs[start], id)
		}
		if n := len(stays) - 1; n >= 0 && t <= stays[n][1] {
			stays[n][1], ids[n] = t+hour, append(ids[n], id)
		} else {
			stays, ids = append(stays, [2]int64{t, t + hour}), append(ids, []string{id})
		}
		if i+1 == len(times)-late || times[i+1] > t+10*minute {
			want = append(want, told("silence", map[string]string{"a": id}))
		}
	}
	add := func(operator string, start, end int64, ids []string) {
		want = append(want, told(operator, map[string]string{"window_start": "text " + expanded(start), "window_end": "text " + expanded(end), "ids": fmt.Sprint(ids)}))
	}
	for start, ids := range days {
		add("days", start, start+day, ids)
	}
	for start, ids := range longs {
		add("long_days", start, start+36*hour, ids)
	}
	for i, s := range stays {
		add("stays", s[0], s[1], ids[i])
	}
	return want
}

// expanded is a time as ECMAScript writes it.
func expanded(ms int64) string {
	t := time.UnixMilli(ms).UTC()
	if y := t.Year(); y < 0 || y > 9999 {
		return fmt.Sprintf("%+07d", y) + t.Format("-01-02T15:04:05.000Z")
	}
	return stamp(t)
}

// badLine is a line and what becomes of it: a row, nothing if it is blank, or an error.
type badLine struct{ text, reason, detail string }

func badLines() []badLine {
	const good = `{"t":"2026-03-02T08:00:00Z","i":`
	deep := func(n int) string {
		return good + "1,\"x\":" + strings.Repeat(`{"a":`, n-2) + "{}" + strings.Repeat("}", n-2) + "}"
	}
	return []badLine{
		{"\xef\xbb\xbf" + good + "1}", "row", ""}, {good + "2}\r", "row", ""}, {"", "", ""}, {" \t ", "", ""}, {"\r", "", ""}, {" " + good + "3 } ", "row", ""}, {good + "3}\xef\xbb\xbf", "not_json", "more than one JSON value at byte 34"},
		{"\xef\xbb\xbf" + good + "4}", "not_json", "not a JSON object at byte 0"}, // only a file begins with one
		{"[1,2]", "not_json", "not a JSON object at byte 0"}, {"5", "not_json", "not a JSON object at byte 0"}, {`"text"`, "not_json", "not a JSON object at byte 0"}, {"null", "not_json", "not a JSON object at byte 0"},
		{"plain text", "not_json", "not a JSON object at byte 0"}, {"{}", "no_time", "field t is missing"}, {`{"t":null}`, "no_time", "field t is missing"}, {`{"t":5}`, "bad_time", "5 is a number"},
		{`{"t":"2026-02-30T00:00:00Z"}`, "bad_time", "day 30"}, {`{"t":["2026-03-02T08:00:00Z"]}`, "bad_time", "is a array"}, {`{"t":"10000-01-01T00:00:00Z"}`, "bad_time", "not an RFC 3339 time"},
		{good + "5", "not_json", "a comma or } must come here at byte 33"}, {good + "NaN}", "not_json", "a value must come here at byte 32"}, {good + "Infinity}", "not_json", "a value must come here at byte 32"}, {good + "01}", "not_json", "a comma or } must come here at byte 33"},
		{good + "+1}", "not_json", "a value must come here at byte 32"}, {good + "1.}", "not_json", "a digit must come here at byte 34"}, {good + "1e400}", "row", ""}, {good + "1,}", "not_json", "a key must come here at byte 34"}, {good + "\"a\tb\"}", "not_json", "a control character in a string at byte 34"},
		{good + `"\x"}`, "not_json", "an escape that JSON does not know at byte 33"}, {good + "1} {}", "not_json", "more than one JSON value at byte 35"}, {good + "\"\xff\"}", "row", ""}, {good + "1,\"\xff\":\"\xc3\x28\"}", "row", ""},
		{deep(512), "row", ""}, {deep(513), "not_json", "nested too deep"}, {good + "1,\"x\":" + strings.Repeat("[", 100_000), "not_json", "nested too deep"}, {good + `6,"i":7,"t":"2026-03-02T08:00:01Z"}`, "row", ""},
		{good + `"` + strings.Repeat("x", 2<<20) + `"}`, "line_too_long", ""}, {"\x00\x00\x00", "not_json", "not a JSON object at byte 0"}, {"\xff\xfe{\x00}\x00", "not_json", "not a JSON object at byte 0"},
		{`{"no":"stream","t":"2026-03-02T08:00:00Z"}`, "no_stream", "no stream's `where` takes this event"}, {good + "8}", "row", ""}, // the last one has no newline
	}
}

// writeLines writes lines, and says at which byte each begins.
func writeLines(t *testing.T, path string, lines []string, end string) (offsets []int) {
	t.Helper()
	var b bytes.Buffer
	for i, l := range lines {
		offsets = append(offsets, b.Len())
		b.WriteString(l)
		if i+1 < len(lines) {
			b.WriteByte('\n')
		}
	}
	b.WriteString(end)
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return offsets
}

// shownRow is a row of the run in the model's words.
func shownRow(t *testing.T, r result) string {
	t.Helper()
	var row badRow
	if err := json.Unmarshal([]byte(r.line), &row); err != nil {
		t.Fatal(err)
	}
	columns := map[string]string{}
	switch r.Tocsin.Operator {
	case "news", "large", "exactly", "judged":
		return told(r.Tocsin.Operator, map[string]string{"i": cell(row["i"])})
	}
	for name, v := range row {
		var list []json.RawMessage
		switch {
		case name == "_tocsin":
			continue
		case (name == "ids" || name == "some") && json.Unmarshal(v, &list) == nil:
			var cells []string
			for _, x := range list {
				cells = append(cells, cell(x))
			}
			columns[name] = fmt.Sprint(cells)
		default:
			columns[name] = cell(v)
		}
	}
	return told(r.Tocsin.Operator, columns)
}

func TestBadInput(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	dir := t.TempDir()
	values, partners := badValues(r, 1200), badValues(r, 40)
	writeLines(t, filepath.Join(dir, "values.jsonl"), values, "\n")
	writeLines(t, filepath.Join(dir, "partners.jsonl"), partners, "\n")
	want := expectedValues(decoded(t, values), decoded(t, partners))

	// the years 0 and 1, before and at 1970, 2026, 9999, and two that are late behind it
	times := []int64{-62_167_219_200_000, -62_135_596_800_000, -86_400_001, -86_400_000, -1, 0, 1, 86_399_999, 86_400_000, 1_772_438_400_000, 1_772_438_700_000, 253_402_300_799_999, 253_402_300_799_999, 1_772_438_400_000, 0}
	const lateTimes = 2
	var lines []string
	for i, ms := range times {
		lines = append(lines, fmt.Sprintf(`{"t":%d,"i":%d,"k":1}`, ms, i))
	}
	faults := []string{`{"t":253402300800000}`, `{"t":-62167219200001}`, `{"t":1e300}`, `{"t":"NaN"}`, `{"t":true}`}
	offsets := writeLines(t, filepath.Join(dir, "times.jsonl"), append(lines, faults...), "\n")
	want = append(want, expectedTimes(times, lateTimes)...)
	var wantErrors []string
	for i, detail := range []string{"is not within the years 0 to 9999", "is not within the years 0 to 9999", "is out of range", "is not a number", "is not a number"} {
		wantErrors = append(wantErrors, fmt.Sprint("times ", offsets[len(lines)+i], " bad_time ", detail))
	}

	bad := badLines()
	lines = nil
	for _, l := range bad {
		lines = append(lines, l.text)
	}
	offsets = writeLines(t, filepath.Join(dir, "lines.jsonl"), lines, "")
	read := 0
	for i, l := range bad {
		switch l.reason {
		case "":
		case "row":
			read++
		default:
			wantErrors = append(wantErrors, strings.TrimSpace(fmt.Sprint("lines ", offsets[i], " ", l.reason, " ", l.detail)))
		}
	}

	const scans = 200_000 // of one key
	var many []string
	for i := range scans {
		many = append(many, fmt.Sprintf(`{"t":"2026-03-02T08:00:%02d.000Z","k":1,"i":%d}`, i*50/scans, i%20_000))
	}
	writeLines(t, filepath.Join(dir, "many.jsonl"), many, "\n")
	for _, p := range decoded(t, partners) {
		n := 0
		if cell(p["k"]) == "number 1" {
			n = scans
		}
		want = append(want, told("scanned", map[string]string{"a": cell(p["i"]), "matches": fmt.Sprint("number ", n)}))
	}

	pipeline, out := moved(t, "testdata/bad_input.yaml", dir, "DATA", dir)
	binary := build(t)
	said, err := exec.Command(binary, "run", pipeline).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	if again, err := exec.Command(binary, "run", pipeline).CombinedOutput(); err != nil || !strings.Contains(string(again), "nothing new") {
		t.Errorf("the state does not go on: %v\n%s", err, again)
	}
	rows := results(t, out)
	want = append(want, told("scans", map[string]string{"k": "number 1", "n": fmt.Sprint("number ", scans), "ports": estimated(t, rows, 20_000), "approximate": `["ports"]`,
		"window_start": "text 2026-03-02T08:00:00.000Z", "window_end": "text 2026-03-02T08:01:00.000Z"}))
	checkBadInput(t, rows, want, wantErrors, read, lateTimes)
	mended, twice := 0, 2 // one of lines has two keys twice
	for i, list := range [][]string{values, partners, lines} {
		for _, l := range list {
			if !utf8.ValidString(l) && len(l) < 1<<20 {
				mended++
			}
			if strings.Contains(l, `"k":"one"`) {
				twice += 3 - 2*i // once k, in values also v, which stands there three times
			}
		}
	}
	for _, summary := range []string{fmt.Sprintf("%d errors", len(wantErrors)), fmt.Sprintf("%d lines that were not UTF-8, %d keys that stood twice", mended, twice)} {
		if !strings.Contains(string(said), summary) {
			t.Errorf("the summary does not say %q:\n%s", summary, said)
		}
	}
}

// checkBadInput compares rows, errors and late rows.
// estimated is the number of ports that were said, which must be near the right one.
func estimated(t *testing.T, rows []result, right float64) string {
	t.Helper()
	for _, r := range rows {
		var x struct{ Ports *float64 }
		if err := json.Unmarshal([]byte(r.line), &x); err != nil {
			t.Fatal(err)
		}
		if x.Ports == nil {
			continue
		}
		if *x.Ports < 0.97*right || *x.Ports > 1.03*right {
			t.Errorf("%v ports, and there are %v", *x.Ports, right)
		}
		return fmt.Sprint("number ", *x.Ports)
	}
	return "nothing"
}

func checkBadInput(t *testing.T, got []result, want, wantErrors []string, read, late int) {
	t.Helper()
	var rows, errors []string
	lates := map[string]int{}
	for _, r := range got {
		switch {
		case r.Tocsin.Kind == "late":
			lates[r.Tocsin.Operator]++
		case r.Tocsin.Kind == "error":
			var x struct {
				Error, Detail, Source string
				Offset                int
			}
			if err := json.Unmarshal([]byte(r.line), &x); err != nil {
				t.Fatal(err)
			}
			file := strings.TrimSuffix(filepath.Base(x.Source), ".jsonl#0")
			errors = append(errors, strings.TrimSpace(fmt.Sprint(file, " ", x.Offset, " ", x.Error, " ", x.Detail)))
		case r.Tocsin.Kind == "alert":
		case r.Tocsin.Operator == "read":
			read--
		default:
			rows = append(rows, shownRow(t, r))
		}
	}
	slices.Sort(rows)
	slices.Sort(want)
	for i := range max(len(rows), len(want)) {
		if i >= len(rows) || i >= len(want) || rows[i] != want[i] {
			t.Fatalf("of %d rows, want %d, number %d is\n%s\nwant\n%s", len(rows), len(want), i, strings.Join(rows[min(i, len(rows)):min(i+3, len(rows))], "\n"), strings.Join(want[min(i, len(want)):min(i+3, len(want))], "\n"))
		}
	}
	slices.Sort(errors)
	slices.Sort(wantErrors)
	for i := range max(len(errors), len(wantErrors)) { // details may say more
		if i >= len(errors) || i >= len(wantErrors) || !matchesError(errors[i], wantErrors[i]) {
			t.Fatalf("of %d errors, want %d, number %d is\n%s\nwant\n%s", len(errors), len(wantErrors), i, strings.Join(errors[min(i, len(errors)):min(i+2, len(errors))], "\n"), strings.Join(wantErrors[min(i, len(wantErrors)):min(i+2, len(wantErrors))], "\n"))
		}
	}
	if read != 0 {
		t.Errorf("%d lines that are events were not read", read)
	}
	if want := map[string]int{"days": late, "long_days": late, "stays": late, "silence": late}; !maps.Equal(lates, want) {
		t.Errorf("late rows: %v, want %v", lates, want)
	}
}

// matchesError says whether an error is of the wanted file, offset and reason, and its detail has the wanted one in it.
func matchesError(got, want string) bool {
	g, w := strings.SplitN(got, " ", 4), strings.SplitN(want, " ", 4)
	return slices.Equal(g[:3], w[:3]) && (len(w) < 4 || len(g) == 4 && strings.Contains(g[3], w[3]))
}
