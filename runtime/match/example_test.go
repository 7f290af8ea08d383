package match_test

import (
	"fmt"

	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/match"
	"gopkg.in/yaml.v3"
)

type login map[event.Field]event.Value

func (l login) Value(f event.Field) event.Value { return l[f] }

func ExampleCompile() {
	const text = `
failed: { status: failure, attempts|gte: 5 }
ours: { user|startswith: [svc_, test_] }
condition: failed and not ours
`
	var n yaml.Node
	if err := yaml.Unmarshal([]byte(text), &n); err != nil {
		panic(err)
	}
	var fields event.Fields
	c, problems := match.Compile(&n, func(path string) (event.Field, error) { return fields.Add(path), nil })
	for _, p := range problems {
		fmt.Println(p)
	}
	row := login{
		fields.Add("status"):   {Kind: event.String, Text: []byte("FAILURE")},
		fields.Add("attempts"): {Kind: event.Number, Text: []byte("7")},
		fields.Add("user"):     {Kind: event.String, Text: []byte("alice")},
	}
	fmt.Println(c.Match(row))
	fmt.Println(c)
	// Output:
	// true
	// ("status" = "failure" and "attempts" >= 5 and not "user" = ["svc_*", "test_*"])
}

// Networks and encoded commands, as Sigma's rules have them.
func ExampleCompile_modifiers() {
	const text = `
inside: { src|cidr: [10.0.0.0/8, 192.168.0.0/16, "fd00::/8"] }
encoded: { cmd|re|i: '\s[-/]enc\w*\s', cmd|wide|base64offset|contains: [IEX, Net.WebClient] }
condition: encoded and not inside
`
	var n yaml.Node
	if err := yaml.Unmarshal([]byte(text), &n); err != nil {
		panic(err)
	}
	var fields event.Fields
	c, problems := match.Compile(&n, func(path string) (event.Field, error) { return fields.Add(path), nil })
	for _, p := range problems {
		fmt.Println(p)
	}
	row := login{
		fields.Add("src"): {Kind: event.String, Text: []byte("203.0.113.7")},
		fields.Add("cmd"): {Kind: event.String, Text: []byte("powershell -Enc SQBFAFgAIAAoAC4ALgAuACkA")},
	}
	fmt.Println(c.Match(row))
	row[fields.Add("src")] = event.Value{Kind: event.String, Text: []byte("::ffff:10.1.2.3")}
	fmt.Println(c.Match(row))
	// Output:
	// true
	// false
}

// Keywords search the texts of the whole event, whatever their fields; fieldref compares two fields of a row.
func ExampleCompile_keywords() {
	const text = `
words: [mimikatz, "sekurlsa::"]
own: { user|fieldref|endswith: host }
condition: words and not own
`
	var n yaml.Node
	if err := yaml.Unmarshal([]byte(text), &n); err != nil {
		panic(err)
	}
	var fields event.Fields
	c, problems := match.Compile(&n, func(path string) (event.Field, error) { return fields.Add(path), nil })
	for _, p := range problems {
		fmt.Println(p)
	}
	row := login{
		fields.Add(event.Whole): {Kind: event.Object, Text: []byte(`{"user":"alice","host":"pc7","process":{"args":["Sekurlsa::logonpasswords"]}}`)},
		fields.Add("user"):      {Kind: event.String, Text: []byte("alice")},
		fields.Add("host"):      {Kind: event.String, Text: []byte("pc7")},
	}
	fmt.Println(c.Match(row))
	fmt.Println(c)
	// Output:
	// true
	// (keywords = ["*mimikatz*", "*sekurlsa::*"] and not "user" endswith field "host")
}
