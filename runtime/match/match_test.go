package match

import (
	"encoding/base64"
	"slices"
	"strconv"
	"testing"

	"github.com/seed-98920119/tocsin/runtime/event"
)

func TestMatch(t *testing.T) {
	for _, x := range []struct {
		rule, condition string
		yes, no         []string
	}{
		{"text ignores case", `f: Failure`, []string{`{"f":"failure"}`, `{"f":"FAILURE"}`}, []string{`{"f":"failures"}`, `{"f":""}`, `{}`, `{"f":null}`}},
		{"simple folding", `f: straße kelvin`, []string{`{"f":"STRAßE \u212aELVIN"}`, `{"f":"ſtraẞe kelvin"}`}, []string{`{"f":"STRASSE KELVIN"}`}},
		{"cased", `f|cased: Failure`, []string{`{"f":"Failure"}`}, []string{`{"f":"failure"}`, `{"f":"\u212a"}`}},
		{"names are case-sensitive", `f: a`, []string{`{"f":"a"}`}, []string{`{"F":"a"}`}},
		{"empty text", `f: ""`, []string{`{"f":""}`}, []string{`{"f":"a"}`, `{}`, `{"f":null}`, `{"f":0}`, `{"f":[]}`}},
		{"map is AND", `{f: a, g: b}`, []string{`{"f":"a","g":"b"}`}, []string{`{"f":"a"}`, `{"g":"b"}`, `{}`}},
		{"list of maps is OR", `[{f: a}, {g: b}]`, []string{`{"f":"a"}`, `{"g":"b"}`}, []string{`{"f":"b"}`, `{}`}},
		{"list of values is OR", `f: [a, 2, true]`, []string{`{"f":"A"}`, `{"f":2}`, `{"f":true}`}, []string{`{"f":"c"}`, `{}`}},
		{"all", `f|contains|all: [one, two]`, []string{`{"f":"two one"}`, `{"f":["one","two"]}`}, []string{`{"f":"one"}`, `{"f":["one","three"]}`, `{}`}},
		{"all of one", `f|all: a`, []string{`{"f":"a"}`}, []string{`{"f":"b"}`}},
		{"null", `f: null`, []string{`{}`, `{"f":null}`, `{"f":[1,null]}`}, []string{`{"f":""}`, `{"f":0}`, `{"f":[]}`, `{"f":{}}`, `{"f":false}`}},
		{"exists", `f|exists: true`, []string{`{"f":""}`, `{"f":{}}`, `{"f":[]}`, `{"f":[null]}`, `{"f":false}`}, []string{`{}`, `{"f":null}`}},
		{"exists not", `f|exists: false`, []string{`{}`, `{"f":null}`}, []string{`{"f":""}`, `{"f":{"a":1}}`}},
		{"neq is negation", `f|neq: a`, []string{`{}`, `{"f":null}`, `{"f":"b"}`, `{"f":["b"]}`, `{"f":{}}`}, []string{`{"f":"A"}`, `{"f":["b","a"]}`}},
		{"neq of a list", `f|neq: [a, b]`, []string{`{}`, `{"f":"c"}`}, []string{`{"f":"a"}`, `{"f":"b"}`}},
		{"neq all", `f|neq|all: [a, b]`, []string{`{}`, `{"f":"a"}`, `{"f":["a"]}`}, []string{`{"f":["a","b"]}`}},
		{"neq null", `f|neq: null`, []string{`{"f":""}`}, []string{`{}`, `{"f":null}`}},
		{"neq contains", `f|contains|neq: a`, []string{`{}`, `{"f":"b"}`}, []string{`{"f":"bab"}`}},
		{"neq gt", `f|neq|gt: 5`, []string{`{}`, `{"f":5}`, `{"f":"x"}`}, []string{`{"f":6}`}},
		{"number", `f: 22`, []string{`{"f":22}`, `{"f":22.0}`, `{"f":2.2e1}`, `{"f":220e-1}`, `{"f":"22"}`, `{"f":"22.00"}`}, []string{`{"f":"022"}`, `{"f":" 22"}`, `{"f":"0x16"}`, `{"f":true}`, `{"f":"22a"}`, `{"f":-22}`, `{"f":23}`, `{}`}},
		{"exact numbers", `f: 9007199254740993`, []string{`{"f":9007199254740993}`, `{"f":"9007199254740993.0"}`}, []string{`{"f":9007199254740992}`, `{"f":9007199254740992.0}`}},
		{"beyond int64", `f: 18446744073709551616`, []string{`{"f":18446744073709551616}`, `{"f":1.8446744073709551616e19}`}, []string{`{"f":18446744073709551617}`, `{"f":18446744073709551615}`}},
		{"uint64", `f: 0xffffffffffffffff`, []string{`{"f":18446744073709551615}`}, []string{`{"f":-1}`}},
		{"beyond float64", `f: 1e308`, []string{`{"f":1e308}`, `{"f":10e307}`}, []string{`{"f":1e400}`, `{"f":1}`}},
		{"tiny", `f: 1e-400`, []string{`{"f":0.1e-399}`}, []string{`{"f":0}`}},
		{"zero", `f: 0`, []string{`{"f":0}`, `{"f":-0}`, `{"f":0.000}`, `{"f":"-0e7"}`}, []string{`{"f":1e-400}`, `{"f":""}`, `{"f":false}`, `{}`}},
		{"hex", `f: 0x1F`, []string{`{"f":31}`, `{"f":"31"}`}, []string{`{"f":"0x1F"}`}},
		{"octal", `f: [0o17, 0b101]`, []string{`{"f":15}`, `{"f":5}`}, []string{`{"f":17}`}},
		{"YAML's floats", `f: [+.5, 5., -1_000.25, 007.5e1]`, []string{`{"f":0.5}`, `{"f":5}`, `{"f":-1000.25}`, `{"f":75}`}, []string{`{"f":-0.5}`}},
		{"negative", `f: -3`, []string{`{"f":-3}`, `{"f":-30e-1}`}, []string{`{"f":3}`}},
		{"text against a number", `f: "22"`, []string{`{"f":22}`, `{"f":"22"}`}, []string{`{"f":22.0}`, `{"f":2.2e1}`}},
		{"text against an exponent", `f: "1E5"`, []string{`{"f":1e5}`}, []string{`{"f":100000}`}},
		{"wildcards against a number", `f: "4?5*"`, []string{`{"f":425}`, `{"f":4.56}`}, []string{`{"f":45}`}},
		{"text against a bool", `f: "True"`, []string{`{"f":true}`, `{"f":"true"}`}, []string{`{"f":false}`, `{"f":1}`}},
		{"bool", `f: true`, []string{`{"f":true}`, `{"f":"TRUE"}`, `{"f":"true"}`}, []string{`{"f":false}`, `{"f":"yes"}`, `{"f":1}`, `{}`, `{"f":null}`}},
		{"cased bool", `f|cased: true`, []string{`{"f":true}`, `{"f":"true"}`}, []string{`{"f":"TRUE"}`}},
		{"quoted is text", `f: "null"`, []string{`{"f":"null"}`}, []string{`{"f":null}`, `{}`}},
		{"yes is text", `f: yes`, []string{`{"f":"yes"}`}, []string{`{"f":true}`}},
		{"a date is text", `f: 2024-01-02`, []string{`{"f":"2024-01-02"}`}, []string{`{"f":"2024-01-02T00:00:00Z"}`}},
		{"lt", `f|lt: 5`, []string{`{"f":4}`, `{"f":"4.9"}`, `{"f":-1e9}`}, []string{`{"f":5}`, `{"f":6}`, `{"f":"x"}`, `{"f":""}`, `{"f":true}`, `{}`, `{"f":null}`, `{"f":{}}`}},
		{"lte", `f|lte: 5`, []string{`{"f":5}`, `{"f":5.0}`, `{"f":0}`}, []string{`{"f":5.00000000000000000001}`}},
		{"gt", `f|gt: 5`, []string{`{"f":6}`, `{"f":5.00000000000000000001}`, `{"f":1e400}`}, []string{`{"f":5}`, `{"f":"five"}`, `{"f":"Inf"}`, `{"f":"NaN"}`}},
		{"gte", `f|gte: -0.5`, []string{`{"f":-0.5}`, `{"f":-5e-1}`, `{"f":0}`}, []string{`{"f":-0.51}`, `{"f":"0x10"}`}},
		{"order of negatives", `f|lt: -9007199254740993`, []string{`{"f":-9007199254740994}`}, []string{`{"f":-9007199254740993}`, `{"f":-9007199254740992.0}`}},
		{"order in arrays", `f|gt: 5`, []string{`{"f":[1,"9"]}`}, []string{`{"f":[1,2]}`, `{"f":[]}`, `{"f":[{"a":9}]}`}},
		{"order of a list", `f|gt: [5, 3]`, []string{`{"f":4}`}, []string{`{"f":3}`}},
		{"contains", `f|contains: Fail`, []string{`{"f":"a failure"}`, `{"f":"FAIL"}`, `{"f":["x","fail"]}`}, []string{`{"f":"fai l"}`, `{}`}},
		{"contains with wildcards", `f|contains: a*b?c`, []string{`{"f":"xxa--bxcxx"}`}, []string{`{"f":"abc"}`}},
		{"contains nothing", `f|contains: ""`, []string{`{"f":""}`, `{"f":5}`}, []string{`{}`, `{"f":null}`, `{"f":{}}`}},
		{"contains a number", `f|contains: 4444`, []string{`{"f":"nc -l 4444"}`, `{"f":144445}`}, []string{`{"f":444}`}},
		{"startswith", `f|startswith: C:\Win`, []string{`{"f":"c:\\windows"}`}, []string{`{"f":"xc:\\windows"}`}},
		{"endswith", `f|endswith: \cmd.exe`, []string{`{"f":"C:\\CMD.EXE"}`}, []string{`{"f":"cmd.exe"}`, `{"f":"\\cmd.exe "}`}},
		{"endswith folds longer", `f|endswith: k`, []string{`{"f":"x\u212a"}`}, []string{`{"f":"\u212ax"}`}},
		{"startswith a backslash", `f|startswith: C:\`, []string{`{"f":"c:\\x"}`}, []string{`{"f":"c:*"}`}},
		{"cased contains", `f|cased|contains: Ab`, []string{`{"f":"xAbx"}`}, []string{`{"f":"xabx"}`}},
		{"star", `f: a*c`, []string{`{"f":"ac"}`, `{"f":"ABBC"}`, `{"f":"a\nc"}`}, []string{`{"f":"acd"}`, `{"f":"bac"}`}},
		{"question mark", `f: a?c`, []string{`{"f":"abc"}`, `{"f":"aßc"}`, `{"f":"a😀c"}`, `{"f":"a\nc"}`}, []string{`{"f":"ac"}`, `{"f":"abbc"}`}},
		{"star alone", `f: "*"`, []string{`{"f":""}`, `{"f":1}`, `{"f":["a"]}`}, []string{`{}`, `{"f":null}`, `{"f":{}}`, `{"f":[]}`, `{"f":[null]}`}},
		{"escapes", `f: a\*b\?c\\d\e\`, []string{`{"f":"a*b?c\\d\\e\\"}`}, []string{`{"f":"axbxc\\d\\e\\"}`}},
		{"escaped backslash before a star", `f: a\\*`, []string{`{"f":"a\\"}`, `{"f":"a\\b"}`}, []string{`{"f":"ab"}`, `{"f":"a*"}`}},
		{"backslash itself", `f: C:\Windows\x`, []string{`{"f":"c:\\windows\\X"}`}, nil},
		{"arrays", `f: b`, []string{`{"f":["a","B"]}`, `{"f":[["b"]]}`, `{"f":[{"b":1},"b"]}`, `{"f":["\u0062"]}`}, []string{`{"f":[]}`, `{"f":["ab"]}`, `{"f":[{"f":"b"}]}`, `{"f":["b\\"]}`}},
		{"kinds in arrays", `f: [7, true]`, []string{`{"f":["x", 7.0]}`, `{"f":[ true ]}`, `{"f":[[[7]]]}`}, []string{`{"f":[null,"a,7",false,{"x":[7]}]}`}},
		{"arrays with all", `f|all: [a, 2]`, []string{`{"f":["2","b","a"]}`}, []string{`{"f":["a"]}`, `{"f":"a"}`, `{"f":[]}`}},
		{"objects", `f: "*a*"`, nil, []string{`{"f":{"a":"a"}}`}},
		{"escaped bar", `f\|g|contains: x`, []string{`{"f|g":"axb"}`}, []string{`{"f":"x"}`}},
		{"aliases", "- f: &v [a, b]\n  g: *v", []string{`{"f":"a","g":"b"}`}, []string{`{"f":"a","g":"c"}`}},
		{"a field named condition", `[{condition: a}]`, []string{`{"condition":"a"}`}, []string{`{"condition":"b"}`}},

		{"re is searched", `f|re: b+c`, []string{`{"f":"abbc."}`, `{"f":["x","bc"]}`}, []string{`{"f":"ac"}`, `{"f":"BC"}`, `{}`, `{"f":null}`, `{"f":{"a":"bc"}}`}},
		{"re with anchors", `f|re: '^\d{3}$'`, []string{`{"f":"404"}`, `{"f":404}`}, []string{`{"f":"4040"}`, `{"f":"404\n"}`}},
		{"re has no wildcards", `f|re: 'a\*b?'`, []string{`{"f":"a*"}`}, []string{`{"f":"axb"}`}},
		{"re i", `f|re|i: 'CMD\.exe'`, []string{`{"f":"c:\\cmd.EXE"}`}, []string{`{"f":"cmdxexe"}`}},
		{"re m", `f|re|m: ^b$`, []string{`{"f":"a\nb\nc"}`}, []string{`{"f":"ab"}`, `{"f":"a\nB"}`}},
		{"re without m", `f|re: ^b$`, []string{`{"f":"b"}`}, []string{`{"f":"a\nb\nc"}`}},
		{"re s", `f|re|s: a.b`, []string{`{"f":"a\nb"}`, `{"f":"axb"}`}, []string{`{"f":"ab"}`}},
		{"re without s", `f|re: a.b`, []string{`{"f":"axb"}`}, []string{`{"f":"a\nb"}`}},
		{"re with all flags", `f|re|s|m|i: '^a.b$'`, []string{`{"f":"x\nA\nB\ny"}`}, nil},
		{"re of a list", `f|re: [^a, b$]`, []string{`{"f":"ax"}`, `{"f":"xb"}`}, []string{`{"f":"bxa"}`}},
		{"re with all", `f|re|all: [a, b]`, []string{`{"f":"ba"}`, `{"f":["a","b"]}`}, []string{`{"f":"a"}`}},
		{"re with neq", `f|neq|re: a`, []string{`{}`, `{"f":"b"}`}, []string{`{"f":"a"}`}},
		{"re with cased", `f|re|cased: a`, []string{`{"f":"a"}`}, []string{`{"f":"A"}`}},
		{"cidr", `DestinationIp|cidr: 10.0.0.0/8`, []string{`{"DestinationIp":"10.255.255.255"}`, `{"DestinationIp":"::ffff:10.0.0.1"}`, `{"DestinationIp":"::ffff:a00:1"}`, `{"DestinationIp":["1.1.1.1","10.0.0.0"]}`}, []string{`{"DestinationIp":"11.0.0.0"}`, `{"DestinationIp":"10.0.0.1/32"}`, `{"DestinationIp":"10.0.0.01"}`, `{"DestinationIp":" 10.0.0.1"}`, `{"DestinationIp":"::10.0.0.1"}`, `{"DestinationIp":10.0}`, `{}`, `{"DestinationIp":null}`, `{"DestinationIp":""}`}},
		{"cidr 6", `f|cidr: 2001:db8::/32`, []string{`{"f":"2001:DB8:ffff::1"}`, `{"f":"2001:0db8:0:0:0:0:0:1%eth0"}`}, []string{`{"f":"2001:db9::"}`, `{"f":"::1"}`, `{"f":"32.1.13.184"}`}},
		{"cidr of an address", `f|cidr: [192.0.2.1, "::1"]`, []string{`{"f":"192.0.2.1"}`, `{"f":"0:0::1"}`}, []string{`{"f":"192.0.2.2"}`}},
		{"cidr of mapped addresses", `f|cidr: "::ffff:10.0.0.0/104"`, []string{`{"f":"10.1.1.1"}`, `{"f":"::ffff:10.1.1.1"}`}, []string{`{"f":"11.1.1.1"}`}},
		{"cidr of everything", `f|cidr: ["0.0.0.0/0"]`, []string{`{"f":"1.2.3.4"}`}, []string{`{"f":"::1"}`, `{"f":"x"}`}},
		{"cidr of a list", `f|cidr: [172.16.0.0/12, 10.0.0.0/8, 10.1.0.0/16, "fd00::/8", 192.168.0.0/16, 10.0.0.0/16]`, []string{`{"f":"10.2.0.1"}`, `{"f":"10.1.0.1"}`, `{"f":"172.31.0.0"}`, `{"f":"fdff::"}`}, []string{`{"f":"172.32.0.0"}`, `{"f":"9.255.255.255"}`, `{"f":"fe00::"}`}},
		{"cidr with all", `f|cidr|all: [10.0.0.0/8, 10.1.0.0/16]`, []string{`{"f":"10.1.0.1"}`, `{"f":["10.1.1.1"]}`}, []string{`{"f":"10.2.0.1"}`, `{"f":["10.2.0.1"]}`}},
		{"cidr with neq", `f|cidr|neq: 10.0.0.0/8`, []string{`{}`, `{"f":"x"}`, `{"f":"11.0.0.1"}`}, []string{`{"f":"10.0.0.1"}`}},
		{"fieldref", `f|fieldref: g`, []string{`{"f":"a","g":"A"}`, `{"f":22,"g":"22.0"}`, `{"f":1e1,"g":10}`, `{"f":true,"g":"True"}`, `{"f":"","g":""}`, `{"f":"a*","g":"A*"}`}, []string{`{"f":"a","g":"b"}`, `{"f":"a"}`, `{"g":"a"}`, `{}`, `{"f":null,"g":null}`, `{"f":{"x":1},"g":{"x":1}}`, `{"f":"ab","g":"a*"}`, `{"f":1,"g":true}`, `{"f":22,"g":"022"}`, `{"f":"22","g":"22.0"}`}},
		{"fieldref cased", `f|cased|fieldref: g`, []string{`{"f":"a","g":"a"}`, `{"f":1.0,"g":"1"}`}, []string{`{"f":"a","g":"A"}`}},
		{"fieldref neq", `f|fieldref|neq: g`, []string{`{"f":"a","g":"b"}`, `{"f":"a"}`, `{}`}, []string{`{"f":"a","g":"A"}`}},
		{"fieldref contains", `f|fieldref|contains: g`, []string{`{"f":"xSTRAẞEx","g":"straße"}`, `{"f":"a","g":""}`, `{"f":"x\u212ay","g":"K"}`, `{"f":1234,"g":23}`}, []string{`{"f":"straße","g":"xstraßex"}`, `{"f":"abc","g":"ac"}`, `{"g":"a"}`, `{"f":"a"}`}},
		{"fieldref startswith", `f|startswith|fieldref: g`, []string{`{"f":"C:\\Users\\a","g":"c:\\users"}`, `{"f":"é","g":"É"}`}, []string{`{"f":"xa","g":"a"}`, `{"f":"a","g":"ab"}`}},
		{"fieldref endswith", `f|endswith|fieldref: g`, []string{`{"f":"host.Example.com","g":".EXAMPLE.com"}`, `{"f":"x\u212a","g":"k"}`}, []string{`{"f":"ax","g":"a"}`, `{"f":"b","g":"ab"}`}},
		{"fieldref cased parts", `[{f|cased|endswith|fieldref: g}, {f|cased|startswith|fieldref: g}, {f|cased|contains|fieldref: h}]`, []string{`{"f":"xa","g":"a"}`, `{"f":"ax","g":"a"}`, `{"f":"xax","h":"a"}`}, []string{`{"f":"xA","g":"a"}`, `{"f":"Ax","g":"a"}`, `{"f":"xAx","h":"a"}`}},
		{"fieldref of arrays", `f|fieldref: g`, []string{`{"f":["a","b"],"g":"B"}`, `{"f":"b","g":["a","b"]}`, `{"f":["a",[7]],"g":["x",7.0]}`}, []string{`{"f":[],"g":[]}`, `{"f":[null],"g":[null]}`, `{"f":["a"],"g":["b"]}`}},
		{"fieldref of a list", `f|fieldref: [g, h]`, []string{`{"f":"a","h":"a"}`, `{"f":"a","g":"a"}`}, []string{`{"f":"a","g":"b","h":"c"}`}},
		{"fieldref with all", `f|fieldref|all: [g, h]`, []string{`{"f":"a","g":"a","h":"a"}`, `{"f":["a","b"],"g":"a","h":"b"}`}, []string{`{"f":"a","g":"a"}`}},

		{"base64", `f|base64: foobar`, []string{`{"f":"Zm9vYmFy"}`}, []string{`{"f":"zm9vYmFy"}`, `{"f":"foobar"}`, `{"f":"xZm9vYmFy"}`, `{}`}},
		{"base64 with padding", `f|base64|contains: 'a\*'`, []string{`{"f":"x YSo= x"}`}, []string{`{"f":"YSo"}`}},
		{"base64 of more than ASCII", `f|base64: é`, []string{`{"f":"w6k="}`}, nil},
		{"base64offset", `f|base64offset|contains: foobar`, []string{`{"f":"xxZm9vYmFyxx"}`, `{"f":"xxxZvb2JhcXX"}`, `{"f":"xxxmb29iYXXX"}`}, []string{`{"f":"foobar"}`, `{"f":"zm9vymfy"}`, `{"f":"Zvb2Jh"}`}},
		{"base64offset with all", `f|base64offset|contains|all: [foobar, barfoo]`, []string{`{"f":"Zm9vYmFy YmFyZm9v"}`, `{"f":["Zvb2Jhc","JhcmZvb"]}`}, []string{`{"f":"Zm9vYmFy"}`, `{"f":"Zm9vYmFy Zvb2Jhc mb29iYX"}`}},
		{"base64offset with neq", `f|base64offset|contains|neq: foobar`, []string{`{}`, `{"f":"x"}`}, []string{`{"f":"Zvb2Jhc"}`}},
		{"wide", `f|wide: cmd`, []string{`{"f":"c\u0000m\u0000d\u0000"}`, `{"f":"C\u0000M\u0000D\u0000"}`}, []string{`{"f":"cmd"}`, `{"f":"\u0000c\u0000m\u0000d"}`}},
		{"utf16be", `f|utf16be|contains: cmd`, []string{`{"f":"x\u0000c\u0000m\u0000dx"}`}, []string{`{"f":"c\u0000m\u0000d\u0000"}`}},
		{"utf16le base64", `f|utf16le|base64: cmd`, []string{`{"f":"YwBtAGQA"}`}, nil},
		{"utf16be base64", `f|utf16be|base64: cmd`, []string{`{"f":"AGMAbQBk"}`}, nil},
		{"utf16 base64", `f|utf16|base64: cmd`, []string{`{"f":"//5jAG0AZAA="}`}, nil},
		{"wide base64 beyond the BMP", `f|wide|base64: 😀`, []string{`{"f":"PdgA3g=="}`}, nil},
		{"encoded PowerShell", `f|wide|base64offset|contains: [IEX, "Net.WebClient"]`, []string{`{"f":"powershell -enc SQBFAFgAIAAoAE4AZQB3AC0A"}`, `{"f":"TgBlAHQALgBXAGUAYgBDAGwAaQBlAG4AdAA="}`}, []string{`{"f":"SQBGAFgA"}`, `{"f":"IEX"}`}},
		{"encoded twice", `f|base64|base64offset|contains: foobar`, []string{`{"f":"xWm05dlltRnlx"}`}, []string{`{"f":"Zm9vYmFy"}`}},
		{"windash", `f|windash|contains: " -f -b"`, []string{`{"f":"x -f -b"}`, `{"f":"x /F –b"}`, `{"f":"x —f ―b"}`}, []string{`{"f":"x f b"}`, `{"f":"x +f -b"}`}},
		{"windash at the start", `f|contains|windash: "/param-name"`, []string{`{"f":"x-param-name"}`, `{"f":"–PARAM-name"}`, `{"f":"/param-name"}`}, []string{`{"f":"-param/name"}`}},
		{"windash whole", `f|windash: [-a, "*-b"]`, []string{`{"f":"/A"}`, `{"f":"x ―b"}`}, []string{`{"f":"/a "}`, `{"f":"a"}`}},
		{"windash before no word", `f|windash: "a- --b -"`, []string{`{"f":"a- -/b -"}`, `{"f":"a- --b -"}`}, []string{`{"f":"a/ --b -"}`, `{"f":"a- /-b -"}`, `{"f":"a- --b /"}`}},
		{"windash cased", `f|windash|cased|startswith: -Enc`, []string{`{"f":"/Enc x"}`}, []string{`{"f":"/enc x"}`}},
		{"windash with all", `f|windash|contains|all: [-a, -b]`, []string{`{"f":"/a –b"}`}, []string{`{"f":"/a"}`}},
		{"windash base64", `f|windash|base64: -a`, []string{`{"f":"LWE="}`, `{"f":"L2E="}`, `{"f":"4oCTYQ=="}`, `{"f":"4oCUYQ=="}`, `{"f":"4oCVYQ=="}`}, []string{`{"f":"YQ=="}`}},
		{"expand", `f|expand: 'a\%b%c 100%'`, []string{`{"f":"A%b%c 100%"}`}, []string{`{"f":"a\\%b%c 100%"}`}},
		{"a percent sign", `f: '%name%'`, []string{`{"f":"%name%"}`}, nil},
		{"expand re", `f|expand|re: '^5\%$'`, []string{`{"f":"5%"}`}, nil},

		{"keywords", `[mimikatz, "event::clear", 4625]`, []string{`{"x":"run MimiKatz.exe"}`, `{"a":{"b":[1,{"c":["event::clear"]}]}}`, `{"code":"E4625"}`}, []string{`{}`, `{"mimikatz":"x"}`, `{"mimikatz" : "x", "y":[]}`, `{"code":4625}`, `{"x":"mimi","y":"katz"}`}},
		{"keywords in escapes", `["C:\\Windows\\\\*\\cmd", "\"é\""]`, []string{`{"x":"c:\\windows\\system32\\cmd.exe"}`, `{"x":["\"\u00e9\""]}`, `{"a\"b\\":"\\","x":"\"É\""}`}, []string{`{"x":"C:/Windows/x/cmd"}`, `{"\"é\"":1}`}},
		{"keywords in a list of maps", `[{f: a}, x, {g: b}, y]`, []string{`{"f":"a"}`, `{"h":"-x-"}`, `{"g":"b"}`, `{"h":"Y"}`}, []string{`{"f":"b"}`}},
		{"keywords with all", `"|all": [one, two]`, []string{`{"x":"one two"}`, `{"x":"TWO","y":["One"]}`}, []string{`{"x":"one"}`, `{}`}},
		{"keywords with neq", `"|neq": [one, two]`, []string{`{}`, `{"x":"three"}`}, []string{`{"x":"one"}`}},
		{"keywords with re", `"|re|i": ^one$`, []string{`{"x":["One"]}`}, []string{`{"x":"one two"}`}},
		{"keywords cased", `"|cased": one`, []string{`{"x":"-one-"}`}, []string{`{"x":"One"}`}},
		{"keywords at an end", `"|endswith": [".exe"]`, []string{`{"x":"a.EXE"}`}, []string{`{"x":"a.exe -b"}`}},
		{"keywords encoded", `"|wide|base64offset": IEX`, []string{`{"x":"-enc SQBFAFgA"}`}, []string{`{"x":"IEX"}`}},
		{"keywords and a field", `{"|contains": one, f: two}`, []string{`{"f":"two","g":"one"}`}, []string{`{"f":"two"}`, `{"f":"one"}`}},
		{"keywords as a block", `{keywords: [one, two], filter: {f: x}, condition: keywords and not filter}`, []string{`{"g":"one"}`}, []string{`{"g":"one","f":"x"}`, `{"g":"x"}`}},

		{"named blocks", `{a: {f: x}, b: [{g: y}, {g: z}], condition: a and b}`, []string{`{"f":"x","g":"z"}`}, []string{`{"f":"x"}`, `{"g":"y"}`}},
		{"not is negation", `{a: {f: x}, condition: not a}`, []string{`{}`, `{"f":"y"}`}, []string{`{"f":"x"}`}},
		{"not not", `{a: {f: x}, condition: not not a}`, []string{`{"f":"x"}`}, []string{`{}`}},
		{"or binds less than and", `{a: {f: x}, b: {g: y}, c: {h: z}, condition: a or b and c}`, []string{`{"f":"x"}`, `{"g":"y","h":"z"}`}, []string{`{"g":"y"}`, `{"h":"z"}`}},
		{"parentheses", `{a: {f: x}, b: {g: y}, c: {h: z}, condition: (a or b)and(c)}`, []string{`{"f":"x","h":"z"}`}, []string{`{"f":"x"}`, `{"h":"z"}`}},
		{"not binds most", `{a: {f: x}, b: {g: y}, condition: not a and b}`, []string{`{"g":"y"}`}, []string{`{}`, `{"f":"x","g":"y"}`}},
		{"1 of", `{s1: {f: x}, s2: {g: y}, t: {h: z}, condition: 1 of s*}`, []string{`{"f":"x"}`, `{"g":"y"}`}, []string{`{"h":"z"}`}},
		{"all of", `{s1: {f: x}, s2: {g: y}, t: {h: z}, condition: all of s* and not t}`, []string{`{"f":"x","g":"y"}`}, []string{`{"f":"x"}`, `{"f":"x","g":"y","h":"z"}`}},
		{"1 of them", `{a: {f: x}, _b: {g: y}, condition: 1 of them}`, []string{`{"f":"x"}`}, []string{`{"g":"y"}`}},
		{"all of them", `{a: {f: x}, b: {g: y}, _c: {h: z}, condition: ALL OF THEM}`, []string{`{"f":"x","g":"y"}`}, []string{`{"f":"x"}`, `{"h":"z"}`}},
		{"_ when asked for", `{a: {f: x}, _b: {g: y}, condition: 1 of _*}`, []string{`{"g":"y"}`}, []string{`{"f":"x"}`}},
		{"blocks called 1 and all", `{1: {f: x}, all: {g: y}, condition: 1 and all}`, []string{`{"f":"x","g":"y"}`}, []string{`{"f":"x"}`}},
	} {
		t.Run(x.rule, func(t *testing.T) {
			var fields event.Fields
			c := mustCompile(t, &fields, x.condition)
			for _, row := range x.yes {
				if !c.Match(rowOf(t, &fields, row)) {
					t.Errorf("%s does not match %s", x.condition, row)
				}
			}
			for _, row := range x.no {
				if c.Match(rowOf(t, &fields, row)) {
					t.Errorf("%s matches %s", x.condition, row)
				}
			}
		})
	}
}

// The examples of Sigma's specification, version 2.
func TestSigma(t *testing.T) {
	for _, x := range []struct{ condition, row string }{
		{`{EventLog: Security, EventID: [517, 1102]}`, `{"EventLog":"Security","EventID":1102}`},
		{`{EventLog: Security, EventID: 4769, TicketOptions: '0x40810000', TicketEncryption: '0x17'}`, `{"EventLog":"Security","EventID":4769,"TicketOptions":"0x40810000","TicketEncryption":"0x17"}`},
		{`[{Image|endswith: '\example.exe'}, {Description|contains: 'Test executable'}]`, `{"Image":"C:\\example.exe"}`},
		{`[{Image|endswith: '\example.exe'}, {Description|contains: 'Test executable'}]`, `{"Description":"A test executable."}`},
		{`{selection: {EventID: 4738}, filter: {PasswordLastSet: null}, condition: selection and not filter}`, `{"EventID":4738,"PasswordLastSet":"never"}`},
		{`{EventID: 4738, PasswordLastSet|exists: true}`, `{"EventID":4738,"PasswordLastSet":""}`},
		{`DestinationIp|cidr: 10.0.0.0/8`, `{"DestinationIp":"10.9.8.7"}`},
		{`{mimikatz_keywords: ['event::clear', 'event::drop'], condition: mimikatz_keywords}`, `{"message":"mimikatz # event::drop"}`},
		{`{keywords_cmdlet: {'|all': ['OabVirtualDirectory', ' -ExternalUrl ']}, condition: keywords_cmdlet}`, `{"m":"Set-OabVirtualDirectory x -ExternalUrl y"}`},
		{`['EVILSERVICE', 'svchost.exe -n evil']`, `{"a":{"b":"svchost.exe -n evil"}}`},
		{`f: prog?.exe`, `{"f":"progB.exe"}`},
		{`f: antivirus_V*.exe`, `{"f":"antivirus_V21.2.1.exe"}`},
		{`f: '\*'`, `{"f":"*"}`},
		{`f: '\\*'`, `{"f":"\\x"}`},
		{`f: '\\\*'`, `{"f":"\\*"}`},
		{`f: '\\\\'`, `{"f":"\\\\"}`},
		{`f: '%name%'`, `{"f":"%name%"}`},
		{`f|wide: cmd`, `{"f":"c\u0000m\u0000d\u0000"}`},                          // 63 00 6d 00 64 00
		{`f|utf16be: cmd`, `{"f":"\u0000c\u0000m\u0000d"}`},                       // 00 63 00 6d 00 64
		{`f|utf16|base64: cmd`, `{"f":"` + b64("\xff\xfec\x00m\x00d\x00") + `"}`}, // FF FE 63 00 6d 00 64 00
	} {
		var fields event.Fields
		if c := mustCompile(t, &fields, x.condition); !c.Match(rowOf(t, &fields, x.row)) {
			t.Errorf("%s does not match %s", x.condition, x.row)
		}
	}
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func TestNilMatchesEverything(t *testing.T) {
	c, problems := Compile(nil, nil)
	if c != nil || problems != nil || !c.Match(cells{}) || c.Fields() != nil || c.String() != "" {
		t.Error("a nil node is no condition, and that matches everything")
	}
}

func TestFields(t *testing.T) {
	var fields event.Fields
	for i := range 5 {
		fields.Add("before " + strconv.Itoa(i))
	}
	c := mustCompile(t, &fields, `{x: {b: 1, a|exists: true}, y: [{b|gt: 2}, {c|fieldref: [d, b]}], condition: y or not x}`)
	var paths []string
	for _, f := range c.Fields() {
		paths = append(paths, fields.Path(f))
	}
	if !slices.Equal(paths, []string{"b", "c", "d", "a"}) {
		t.Errorf("fields: %q", paths)
	}
}

func TestPaths(t *testing.T) {
	for key, want := range map[string]string{
		`a.b|contains`: `a.b`, `a\.b`: `a\.b`, `a\|b|all`: `a|b`, `a\\|cased`: `a\\`, `a\x`: `a\x`, `a\`: `a\`,
	} {
		if path, _ := splitKey(key); path != want {
			t.Errorf("%s: path %s, not %s", key, path, want)
		}
	}
}

// Each group is several spellings of one condition; no two groups mean the same.
func TestFingerprint(t *testing.T) {
	seen := map[string]string{}
	for want, group := range map[string][]string{
		`"f" = "a"`:                        {`f: a`, `f: [a]`, `[{f: "a"}]`, `f|all: a`, `{x: {f: a}, condition: x}`, `{y: {f: a}, condition: not (not y)}`},
		`"f" = "*a*"`:                      {`f|contains: a`, `f: "*a*"`, `f|contains: "*a**"`, `f|startswith: "*a"`},
		`"f" = "a?*"`:                      {`f: a*?`, `f: a?**`},
		`"f" = "\\*\\\\"`:                  {`f: \*\`, `f: \*\\`},
		`"f" = cased "a"`:                  {`f|cased: a`},
		`"f" = ["a", "b"]`:                 {`f: [a, b]`},
		`"f" = all ["*a*", "*b*"]`:         {`f|all|contains: [a, b]`, `f|contains|all: [a, b]`},
		`not "f" = "a"`:                    {`f|neq: a`, `{x: {f: a}, condition: not x}`},
		`"f" = 1000`:                       {`f: 1000`, `f: 1e3`, `f: 0x3e8`, `f: 1_000.0`, `f|cased: 1000`},
		`"f" = 1.5e-7`:                     {`f: 1.5e-7`, `f: 0.15e-6`, `f: .00000015`},
		`"f" = -1e30`:                      {`f: -1e30`},
		`"f" = "1000"`:                     {`f: "1000"`},
		`"f" = null`:                       {`f: null`, `f: ~`, `f:`},
		`"f" exists`:                       {`f|exists: true`},
		`not "f" exists`:                   {`f|exists: false`},
		`"f" = true`:                       {`f: true`, `f: True`},
		`"f" >= 5`:                         {`f|gte: 5`, `f|gte: 5.0`},
		`"f" =~ "(?im)a\\*"`:               {`f|re|i|m: a\*`, `f|re|m|i: a\*`},
		`"f" =~ all ["a", "b"]`:            {`f|re|all: [a, b]`},
		`"f" in 10.0.0.0/8`:                {`f|cidr: 10.0.0.0/8`, `f|cidr: [10.1.0.0/16, "::ffff:10.0.0.0/104"]`},
		`"f" in [10.0.0.0/8, ::1/128]`:     {`f|cidr: ["::1", 10.0.0.0/8]`},
		`"f" in all [::1/128, 10.0.0.0/8]`: {`f|cidr|all: ["::1", 10.0.0.0/8]`},
		`"f" = field "g"`:                  {`f|fieldref: g`, `f|fieldref|all: [g]`},
		`"f" contains cased all field "g", field "h"`:                                  {`f|all|cased|fieldref|contains: [g, h]`},
		`"f" = cased "YWI="`:                                                           {`f|base64: ab`, `f|cased|base64: ab`},
		`"f" = cased ["*YW*", "*Fi*", "*hY*"]`:                                         {`f|base64offset|contains: ab`},
		`"f" = cased all [any ["*YW*", "*Fi*", "*hY*"], any ["*YW*", "*Fj*", "*hY*"]]`: {`f|base64offset|contains|all: [ab, ac]`},
		`"f" = "*\\-a-b*"`:                                                             {`f|windash|contains: -a-b`, `f|contains|windash: /a-b`},
		`"f" = "\\\\-a"`:                                                               {`f: '\-a'`},
		`keywords = ["*a*", "*b*"]`:                                                    {`[a, b]`, `{x: [a, b], condition: x}`, `"|contains": [a, b]`},
		`keywords = all ["*a*", "*b*"]`:                                                {`"|all": [a, b]`},
		`("f" = "x" or keywords = "*a*")`:                                              {`[a, f: x]`, `[f: x, a]`},
		`("f" = "a" and "g" = "b")`:                                                    {`{f: a, g: b}`, `{x: {f: a}, y: {g: b}, condition: x and (y)}`, `{x1: {f: a}, x2: {g: b}, condition: all of x*}`},
		`("f" = "a" or "g" = "b")`:                                                     {`[{f: a}, {g: b}]`, `{x: {f: a}, y: {g: b}, condition: 1 of them}`},
		`not ("f" = "a" or "g" = "b")`:                                                 {`{x: {f: a}, y: {g: b}, condition: not 1 of them}`},
		`("f" = "a" and not "g" = "\"or")`:                                             {`{f: a, g|neq: '"or'}`},
	} {
		for _, text := range group {
			var fields event.Fields
			got := mustCompile(t, &fields, text).String()
			if got != want {
				t.Errorf("%s: fingerprint %s, not %s", text, got, want)
			}
			if other, ok := seen[got]; ok && other != want {
				t.Errorf("%s has the fingerprint of %s", text, other)
			}
			seen[got] = want
		}
	}
}

func TestNoAllocations(t *testing.T) {
	var fields event.Fields
	c := mustCompile(t, &fields, `
a: { s: [x, Failure], n|gte: 5, w: "*fail*r??", big: 18446744073709551616, list|all: [b, 3], re|re|i: "fail.*!$", ip|cidr: [10.0.0.0/8, "fd00::/8"], six|cidr: [10.0.0.0/8, "fd00::/8"],
     s|fieldref|contains: part, list|fieldref: three, s|windash|startswith: [-x, f], code|wide|base64offset|contains: failure }
b: { gone|exists: true }
k: { "|all": ["some \\fail*", "U+0041"], "|re": "^fd00" }
condition: a and k and not b`)
	var row Row = rowOf(t, &fields, `{"s":"FAILURE","n":"7.5","w":"some failure!","big":18446744073709551616,"list":["a","b",3],
		"re":"a FAILURE\u0021","ip":"::ffff:10.1.2.3","six":"fd00:1::2","part":"lur","three":[7,"3.0"],"escaped":["a some \\failure","U+0041\u0041"],"code":"x ZgBhAGkAbAB1AHIAZQA"}`)
	if !c.Match(row) {
		t.Fatal("does not match")
	}
	if n := testing.AllocsPerRun(100, func() { c.Match(row) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
