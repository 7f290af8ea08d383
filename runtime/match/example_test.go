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
