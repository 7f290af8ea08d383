// Package match decides whether a row meets a condition. Conditions are written as a Sigma detection block is, in YAML, and
// are the same everywhere: where, having, steps, table filters. Read Compile first, then node.match.
//
// # What is written
//
// A map of `field: value` is AND, a list of such maps is OR, a list of values is OR. A key may have modifiers, in any
// order: `field|modifier|modifier`. A map with the key `condition` names blocks and combines them with and, or, not,
// parentheses, `1 of x*`, `all of x*`, `1 of them` and `all of them`; not binds more than and, and more than or; names with
// _ in front belong to no `them`, and to a pattern only if it begins with _ itself.
//
// Modifiers: contains, startswith, endswith; lt, lte, gt, gte; exists; cased; neq; all. Sigma's others are refused by name.
// Keywords (values without a field) and merge keys are refused too.
//
// # What it means
//
// Logic has two values. An absent or null field makes an item false, except `null` and `exists: false`. `neq` and `not` are
// plain negation, so they are true of an absent field.
//
//   - A text equals strings by Unicode simple folding, and the JSON text of numbers and bools; `*` is any run of characters
//     and `?` one, unless escaped as `\*` and `\?`; `\\` is a backslash, and so is one before any other character. `cased`
//     makes it exact. contains, startswith and endswith are the same with `*` put where it belongs.
//   - A number equals numbers and the strings that are one in JSON's notation, by value: 22 equals 22.0 and "2.2e1". lt, lte,
//     gt and gte compare the same way and are false for everything else. All of it is exact: no float64 is involved.
//   - true and false equal bools, and the strings "true" and "false" in any case (as they are with `cased`).
//   - null means absent or null. `exists: true` means present and not null, which is what analysts expect of it (Sigma's own
//     text counts a null as existing), `exists: false` the contrary.
//   - An array matches if any element does, elements of arrays within it too; with `all` each value must hit some element,
//     not all the same one. `null` hits a null element. An empty array matches nothing and exists.
//   - An object matches nothing and exists.
//
// Values have the types that YAML gives them: 22 is a number and "22" a text, yes is a text, hexadecimal and octal integers
// are numbers, dates are texts, and .inf and .nan are refused. Names of fields are case-sensitive; `\|` is a bar within a
// name, and dots are the resolver's business.
//
// # What it promises
//
// Compile finds all problems, each with its place and a next step; text and aliases of any size are bounded by LiteralsMax,
// DepthMax and PatternMax. Match does not allocate, except for array elements that are strings with escapes. A wildcard
// never backtracks further than its last star: time is at most the product of both lengths.
//
// # What it costs
//
// On one core of an AMD EPYC, Go 1.26, `go test -bench Match`, the call included: equality of a short ASCII text 13 to 23
// ns, each further value in a list 10 ns; a number 14 to 25 ns; startswith 20 ns; contains 0.7 ns a byte of the cell; an
// array 20 ns an element; the worst wildcard 1.3 ns a byte of the cell and the pattern.
package match
