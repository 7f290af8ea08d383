package pipeline

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/redpanda-data/benthos/v4/public/service"
)

// consoleOut is where console writes.
var consoleOut io.Writer = os.Stdout

// valueRunes is how much of a title or value is shown.
const valueRunes = 120

func consoleSpec() *service.ConfigSpec {
	return service.NewConfigSpec().
		Categories("Local").
		Summary("Prints alerts for people, a line each: time, severity, title, entities.").
		Description(`Late and error rows are not shown, they are counted in the summary of the run. Control characters and terminal
escapes in events are shown as text like `+"`\\x1b`"+`, long values are cut.`).
		Fields(
			service.NewStringEnumField("color", "auto", "always", "never").
				Description("Colours by severity; `auto`: if it is a terminal and NO_COLOR is not set.").
				Default("auto"),
			service.NewBoolField("rows").
				Description("Whether the rows of operators are shown too, as JSON.").
				Default(false),
		).
		Example("Alerts and rows on the terminal", runs, `input:
  file_lines:
    paths: [pipelines/data/logins.jsonl]
buffer:
  detect:
    name: console
    state: ./state/console
    streams:
      logins: { time: { field: login_time } }
    operators:
      failures:
        window: { from: logins, tumbling: 1m, key: source_ip, where: { status: failure }, aggregate: { n: count }, having: { n|gte: 5 } }
        alert: { title: "{n} failures from {source_ip}", severity: medium }
output:
  console: { rows: true }
`).
		Example("Alerts alone", "", "output:\n  console: {}\n")
}

func init() { registerRows("console", consoleSpec(), newConsole) }

// console is the output.
type console struct {
	color bool
	rows  bool
	lines bytes.Buffer
}

func newConsole(conf *service.ParsedConfig, _ *service.Resources) (*console, error) {
	out := &console{}
	color, err := conf.FieldString("color")
	if err != nil {
		return nil, err
	}
	switch color {
	case "auto":
		out.color = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && isTerminal(consoleOut)
	case "always", "never":
		out.color = color == "always"
	default:
		return nil, fmt.Errorf("color: %q is none of auto, always, never", color)
	}
	out.rows, err = conf.FieldBool("rows")
	return out, err
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// Connect does nothing.
func (o *console) Connect(context.Context) error { return nil }

func (o *console) pace() (service.BatchPolicy, int) { return service.BatchPolicy{}, 1 }

// Close does nothing.
func (o *console) Close(context.Context) error { return nil }

// WriteBatch prints the alerts of a batch.
func (o *console) WriteBatch(_ context.Context, batch service.MessageBatch) error {
	o.lines.Reset()
	for _, msg := range batch {
		payload, err := msg.AsBytes()
		if err != nil {
			return err
		}
		switch kind, _ := msg.MetaGet("kind"); {
		case kind == "alert":
			o.alert(msg, payload)
		case kind == "row" && o.rows:
			o.row(msg, payload)
		}
	}
	if o.lines.Len() == 0 {
		return nil
	}
	_, err := consoleOut.Write(o.lines.Bytes())
	return err
}

// alertText is what of an alert is shown.
type alertText struct {
	Title    string
	Severity string
	Time     string
	Entities []struct {
		Type  string
		Value any
	}
}

// alert prints one alert. One that a processor turned into something else is shown as it is.
func (o *console) alert(msg *service.Message, payload []byte) {
	var a alertText
	d := json.NewDecoder(bytes.NewReader(payload))
	d.UseNumber()
	if err := d.Decode(&a); err != nil || a.Title == "" {
		a.Title = string(payload)
	}
	fmt.Fprintf(&o.lines, "%s  %s %s", eventTime(msg, a.Time), o.severity(a.Severity), clean(a.Title, valueRunes))
	if n, ok := msg.MetaGet("revision"); ok && n != "0" {
		o.lines.WriteString(" (revision " + clean(n, valueRunes) + ")")
	}
	var shown []string
	sep := "  "
	for _, e := range a.Entities {
		s := clean(e.Type, valueRunes) + "=" + quoted(clean(fmt.Sprint(e.Value), valueRunes))
		if !slices.Contains(shown, s) {
			shown = append(shown, s)
			o.lines.WriteString(sep + s)
			sep = " "
		}
	}
	o.lines.WriteByte('\n')
}

// row prints one row of an operator.
func (o *console) row(msg *service.Message, payload []byte) {
	operator, _ := msg.MetaGet("operator")
	fmt.Fprintf(&o.lines, "%s  ROW    %s %s\n", eventTime(msg, ""), clean(operator, valueRunes), clean(string(payload), len(payload)))
}

// eventTime is the time of the event in UTC, from the metadata or else as the payload has it.
func eventTime(msg *service.Message, otherwise string) string {
	const layout = "2006-01-02 15:04:05Z"
	if v, ok := msg.MetaGet("event_time_ms"); ok {
		if ms, err := strconv.ParseInt(v, 10, 64); err == nil {
			return time.UnixMilli(ms).UTC().Format(layout)
		}
	}
	if t, err := time.Parse(time.RFC3339, otherwise); err == nil {
		return t.UTC().Format(layout)
	}
	return strings.Repeat("-", len(layout))
}

// severities are the words and colours of severities; the words are short, so that titles stand below each other.
var severities = map[string]struct{ word, color string }{
	"informational": {"INFO", "\x1b[2m"},
	"low":           {"LOW", "\x1b[36m"},
	"medium":        {"MEDIUM", "\x1b[33m"},
	"high":          {"HIGH", "\x1b[31m"},
	"critical":      {"CRITICAL", "\x1b[1;31m"},
}

func (o *console) severity(name string) string {
	s, ok := severities[name]
	if !ok {
		s.word = strings.ToUpper(clean(name, 16))
	}
	word := fmt.Sprintf("%-6s", s.word)
	if !o.color || s.color == "" {
		return word
	}
	return s.color + word + "\x1b[0m"
}

// clean makes text of strangers safe for a terminal: whatever does not print, controls, escapes, bytes that are no UTF-8,
// marks that turn the writing around, is shown as an escape. More than n runes are cut.
func clean(s string, n int) string {
	var b strings.Builder
	for ; len(s) > 0; n-- {
		if n == 0 {
			b.WriteString("…")
			break
		}
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		s = s[size:]
	}
	return b.String()
}

// quoted puts a value with spaces in quotes: it must not look like the next entity.
func quoted(s string) string {
	if !strings.ContainsAny(s, ` "`) {
		return s
	}
	return `"` + strings.ReplaceAll(s, `"`, `\"`) + `"`
}
