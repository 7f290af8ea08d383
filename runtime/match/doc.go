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
// Modifiers: contains, startswith, endswith; re with i, m, s; cidr; fieldref; lt, lte, gt, gte; exists; cased; neq; all. Those
// that change a value are done in the order of the key, and before contains: expand, windash; wide (or utf16le), utf16be,
// utf16; base64, base64offset. Values without a field are keywords: a list of them, or the value of a
// key that begins with its modifiers, as `"|all": [a, b]`. Merge keys (<<) are refused.
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
//   - re is a regular expression in RE2's syntax, searched anywhere in the text unless anchored, with case unless i.
//   - cidr is a network, or an address; it holds of the texts that are an address in it. IPv4 addresses mapped into IPv6 are
//     IPv4 addresses, and zones do not matter.
//   - fieldref names another field of the row. Numbers compare by value, as above, all else as texts without wildcards. Missing
//     fields equal nothing, each other neither; of arrays any element of the one and any of the other.
//   - base64 is the encoded text, wide and its kin are UTF-16: `wide|base64` is what PowerShell takes. base64offset is what of
//     the encoded text is the same wherever it stands in a longer one: three texts, of which any will do. A different case is
//     a different text in base64, so these compare with case, and of the text within only the case as written is found.
//   - windash makes a dash or slash before a word, not within one, stand for -, /, en dash, em dash and horizontal bar.
//   - expand makes %name% a placeholder. Nothing defines any yet, so each is a problem; `\%` is a percent sign.
//   - A keyword is searched in every text of an event, however deep, but not in names and numbers. With `all` each must be in
//     some text. Only events have keywords: a row that an operator made has columns to name.
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
// DepthMax, PatternMax and RegexpMax. Match does not allocate, except for array elements that are strings with escapes. A
// wildcard never backtracks further than its last star, and a regular expression not at all: time is at most the product of
// both lengths. Networks of one list are searched in the logarithm of their number; LiteralsMax is their limit.
//
// # Many at once
//
// A Set finds which of many conditions may hold for a row (set.go). From each it takes terms of which one is in every row that meets
// it (need.go): of an AND those of the rarest part, of an OR those of all parts. Equality is a look-up of the folded text, or of the
// number's value; cidr a look-up a length of mask; contains and its kin, wildcards, keywords and what a regular expression cannot do
// without are texts to be found, all at once (gram.go). lt and gt, exists, null, fieldref, texts of one byte and whatever is negated give
// no terms: where a condition has nothing else it is a candidate in every row.
//
// # What it costs
//
// On one core of an AMD EPYC, Go 1.26, `go test -bench Match`, the call included: equality of a short ASCII text 13 to 23
// ns, each further value in a list 10 ns; a number 14 to 25 ns; startswith 20 ns; contains 0.7 ns a byte of the cell; an
// array 20 ns an element; the worst wildcard 1.3 ns a byte of the cell and the pattern. A network 40 ns, one of 5000 networks
// 90 ns, an IPv6 address 20 ns more; fieldref 27 ns, with contains 5 ns a byte; windash 2 ns a byte and base64offset 1.5 ns;
// keywords 1 ns a byte of the event each; a regular expression 25 ns a byte of the cell, unless it is anchored
// or begins with a text: where contains will do, it is thirty times as fast.
//
// A Set of 1 000 conditions with three literals each 0.1 to 0.3 us a row of six fields, 0.7 us for keywords (`go test -bench Set`):
// a nanosecond a byte of what is searched and some 20 ns a field, and then what the candidates cost.
package match
