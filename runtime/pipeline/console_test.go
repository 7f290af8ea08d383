package pipeline

import (
	"bytes"
	"strings"
	"testing"

	"github.com/redpanda-data/benthos/v4/public/service"
)

// printed is what console prints for one message.
func printed(t *testing.T, conf, kind, payload string) string {
	t.Helper()
	var b bytes.Buffer
	old := consoleOut
	consoleOut = &b
	defer func() { consoleOut = old }()
	parsed, err := consoleSpec().ParseYAML(conf, nil)
	if err != nil {
		t.Fatal(err)
	}
	out, err := newConsole(parsed, nil)
	if err != nil {
		t.Fatal(err)
	}
	msg := service.NewMessage([]byte(payload))
	msg.MetaSetMut("kind", kind)
	msg.MetaSetMut("operator", "attacked_logins")
	msg.MetaSetMut("event_time_ms", "1772438419999")
	if err := out.WriteBatch(t.Context(), service.MessageBatch{msg}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestConsole(t *testing.T) {
	const alert = `{"title":"Login from attacking address 203.0.113.7","severity":"high","entities":[
		{"type":"ip","value":"203.0.113.7"},{"type":"user","value":"alice"},{"type":"ip","field":"other","value":"203.0.113.7"}]}`
	for _, tc := range []struct{ name, conf, kind, payload, want string }{
		{"alert", "{}", "alert", alert,
			"2026-03-02 08:00:19Z  HIGH   Login from attacking address 203.0.113.7  ip=203.0.113.7 user=alice\n"},
		{"colour", "color: always", "alert", alert,
			"2026-03-02 08:00:19Z  \x1b[31mHIGH  \x1b[0m Login from attacking address 203.0.113.7  ip=203.0.113.7 user=alice\n"},
		{"severities", "{}", "alert", `{"title":"t","severity":"informational"}`, "2026-03-02 08:00:19Z  INFO   t\n"},
		{"critical", "{}", "alert", `{"title":"t","severity":"critical"}`, "2026-03-02 08:00:19Z  CRITICAL t\n"},
		{"unknown severity", "color: always", "alert", `{"title":"t","severity":"\u001b[0m"}`, "2026-03-02 08:00:19Z  \\X1B[0M t\n"},
		{"numbers", "{}", "alert", `{"title":"t","severity":"low","entities":[{"type":"port","value":65535000000}]}`,
			"2026-03-02 08:00:19Z  LOW    t  port=65535000000\n"},
		{"escapes", "{}", "alert", `{"title":"a\u001b[2Jb\nc\u009bd\u202ee","severity":"low","entities":[{"type":"user","value":"x\r\u0007"}]}`,
			"2026-03-02 08:00:19Z  LOW    a\\x1b[2Jb\\x0ac\\x9bd\\u202ee  user=x\\x0d\\x07\n"},
		{"a value like an entity", "{}", "alert", `{"title":"t","severity":"low","entities":[{"type":"user","value":"x ip=\"1.1.1.1"}]}`,
			"2026-03-02 08:00:19Z  LOW    t  user=\"x ip=\\\"1.1.1.1\"\n"},
		{"not an alert's form", "{}", "alert", "{\"class_uid\":2004}\x1b", "2026-03-02 08:00:19Z         {\"class_uid\":2004}\\x1b\n"},
		{"rows are not shown", "{}", "row", `{"a":1}`, ""},
		{"unless asked for", "rows: true", "row", "{\"a\":1,\"b\":\"\u009b\"}", "2026-03-02 08:00:19Z  ROW    attacked_logins {\"a\":1,\"b\":\"\\x9b\"}\n"},
		{"late", "rows: true", "late", `{"a":1}`, ""},
		{"error", "rows: true", "error", `{"a":1}`, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := printed(t, tc.conf, tc.kind, tc.payload); got != tc.want {
				t.Errorf("got  %q\nwant %q", got, tc.want)
			}
		})
	}
}

// An alert that is said anew says so.
func TestConsoleRevision(t *testing.T) {
	parsed, err := consoleSpec().ParseYAML("{}", nil)
	if err != nil {
		t.Fatal(err)
	}
	o, err := newConsole(parsed, nil)
	if err != nil {
		t.Fatal(err)
	}
	for revision, want := range map[string]string{"0": "t\n", "2": "t (revision 2)\n"} {
		msg := service.NewMessage(nil)
		msg.MetaSetMut("revision", revision)
		o.lines.Reset()
		if o.alert(msg, []byte(`{"title":"t","severity":"low"}`)); !strings.HasSuffix(o.lines.String(), " "+want) {
			t.Errorf("revision %s: %q", revision, o.lines.String())
		}
	}
}

func TestConsoleCutsLongValues(t *testing.T) {
	got := printed(t, "{}", "alert", `{"title":"`+strings.Repeat("ü", 121)+`","severity":"low"}`)
	if want := "2026-03-02 08:00:19Z  LOW    " + strings.Repeat("ü", 120) + "…\n"; got != want {
		t.Errorf("got %q", got)
	}
}

func TestConsoleNoTime(t *testing.T) {
	msg := service.NewMessage(nil)
	if got := eventTime(msg, "2026-03-02T09:00:19.5+01:00"); got != "2026-03-02 08:00:19Z" {
		t.Errorf("from the payload: %q", got)
	}
	if got := eventTime(msg, ""); len(got) != 20 {
		t.Errorf("none: %q", got)
	}
}

func FuzzClean(f *testing.F) {
	f.Add("a\x1b[31m\u202e\xff\u2028b")
	f.Fuzz(func(t *testing.T, s string) {
		for _, r := range clean(s, valueRunes) {
			if r < ' ' || r >= 0x7f && r < 0xa0 {
				t.Fatalf("%q lets %U through", s, r)
			}
		}
	})
}
