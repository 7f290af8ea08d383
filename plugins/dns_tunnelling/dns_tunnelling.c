// Data in DNS names: a query whose labels below the registered domain are long and look encoded.
//
// What counts is the text left of the domain that somebody can register. It is a hit when it is long (min_length), with a label longer
// than people choose (long_label), its letters are as evenly spread as those of encoded data (min_entropy_percent), and it has
// many digits (min_digits_percent) or few vowels, as no words have. Reverse look-ups and names of services (_acme-challenge, _dmarc) are left out. One query says
// little: count the hits of a client by domain, as pipelines/dns_tunnelling.yaml does.
//
// Build, from this folder:
//	python3 -m ziglang cc --target=wasm32-freestanding -O3 -msimd128 -Wall -Wextra -I../../sdk/c -nostdlib -Wl,--no-entry -Wl,--strip-all -Wl,-z,stack-size=16384 -o dns_tunnelling.wasm dns_tunnelling.c
#include "tocsin.h"

TOCSIN_MANIFEST("manifest.json")

enum { LABELS_MAX = 127, NAME_MAX = 255 };

static int64_t min_length, min_entropy, min_digits, long_label;
static uint32_t log2_of[NAME_MAX + 1]; // in 1/65536 bits

// log2_fixed is the logarithm of v, in 1/65536 bits: a bit of it for each squaring.
static uint32_t log2_fixed(uint32_t v) {
	uint32_t whole = 31 - (uint32_t)__builtin_clz(v), out = whole << 16;
	uint64_t x = ((uint64_t)v << 31) >> whole; // from 1 to 2, 31 bits behind the point
	for (uint32_t bit = 1 << 15; bit > 0; bit >>= 1) {
		x = x * x >> 31;
		if (x >> 32) x >>= 1, out |= bit;
	}
	return out;
}

TOCSIN_INIT(config) {
	min_length = tocsin_config_int(config, "min_length", 52);
	min_entropy = tocsin_config_int(config, "min_entropy_percent", 80);
	min_digits = tocsin_config_int(config, "min_digits_percent", 12);
	long_label = tocsin_config_int(config, "long_label", 24);
	for (uint32_t i = 1; i <= NAME_MAX; i++) log2_of[i] = log2_fixed(i);
	return TOCSIN_OK;
}

// A name cut into labels, from the left.
typedef struct {
	uint32_t from[LABELS_MAX + 1], n; // from[i] is where label i begins; from[n] one behind the end and its dot
} name_labels;

static int cut(tocsin_str s, name_labels *out) {
	out->n = 0;
	out->from[0] = 0;
	for (uint32_t i = 0; i <= s.len; i++) {
		if (i < s.len && s.at[i] != '.') continue;
		if (out->n == LABELS_MAX || i == out->from[out->n]) return 0; // an empty label
		out->from[++out->n] = i + 1;
	}
	return 1;
}

static tocsin_str label(tocsin_str s, const name_labels *l, uint32_t i) {
	return (tocsin_str){s.at + l->from[i], l->from[i + 1] - 1 - l->from[i]};
}

static int is(tocsin_str s, const char *text, uint32_t len) {
	return tocsin_equal_nocase(s, (tocsin_str){(const uint8_t *)text, len});
}
#define IS(s, text) is(s, text, sizeof(text) - 1)

// domain_labels is how many labels somebody registers: example.com, and example.co.uk below the second levels of countries.
static uint32_t domain_labels(tocsin_str s, const name_labels *l) {
	if (l->n < 3) return l->n;
	tocsin_str second = label(s, l, l->n - 2);
	int country = label(s, l, l->n - 1).len == 2;
	int shared = IS(second, "co") || IS(second, "com") || IS(second, "net") || IS(second, "org") || IS(second, "gov") || IS(second, "edu") || IS(second, "ac");
	return country && shared ? 3 : 2;
}

typedef struct {
	uint32_t length, labels, longest, digits, vowels, letters, hex;
	uint32_t entropy;      // 1/65536 bits a character
	uint32_t most_entropy; // what as many characters of 16 (base16) or 32 (base32) could have
} shape;

static int is_vowel(uint8_t c) { return c == 'a' || c == 'e' || c == 'i' || c == 'o' || c == 'u'; }

// measure takes the labels [0, n) together. Names mean the same in any case, so case carries nothing.
static shape measure(tocsin_str s, const name_labels *l, uint32_t n) {
	static uint8_t count[256];
	for (uint32_t i = 0; i < sizeof count; i++) count[i] = 0;
	shape out = {0, n, 0, 0, 0, 0, 0, 0, 0};
	for (uint32_t i = 0; i < n; i++) {
		tocsin_str t = label(s, l, i);
		if (t.len > out.longest) out.longest = t.len;
		for (uint32_t k = 0; k < t.len; k++) {
			uint8_t c = tocsin_lower(t.at[k]);
			count[c]++;
			out.length++;
			out.digits += c >= '0' && c <= '9';
			out.letters += c >= 'a' && c <= 'z';
			out.vowels += is_vowel(c);
			out.hex += (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
		}
	}
	if (out.length == 0) return out;
	uint64_t sum = 0;
	for (uint32_t i = 0; i < sizeof count; i++)
		if (count[i] > 0) sum += (uint64_t)count[i] * log2_of[count[i]];
	out.entropy = log2_of[out.length] - (uint32_t)(sum / out.length);
	const uint32_t alphabet = out.hex == out.length ? 16 : 32;
	out.most_entropy = log2_of[out.length < alphabet ? out.length : alphabet];
	return out;
}

// carries says whether the labels look like data.
static int carries(const shape *x) {
	return x->length >= min_length && x->longest >= long_label && (int64_t)x->entropy * 100 >= min_entropy * x->most_entropy &&
		((int64_t)x->digits * 100 >= min_digits * x->length || x->vowels * 4 < x->letters);
}

// A service's name, such as _acme-challenge, or a reverse look-up: what is long in them is not chosen.
static int of_services(tocsin_str s, const name_labels *l) {
	for (uint32_t i = 0; i < l->n; i++)
		if (label(s, l, i).at[0] == '_') return 1;
	return IS(label(s, l, l->n - 1), "arpa");
}

TOCSIN_DETECT(batch) {
	tocsin_text names = tocsin_text_column(batch, 0);
	tocsin_notes notes = tocsin_notes_of(batch);
	for (uint32_t row = 0; row < batch->rows; row++) {
		tocsin_str s = tocsin_text_at(names, row);
		name_labels l;
		if (s.len > 0 && s.at[s.len - 1] == '.') s.len--; // the root
		if (s.len < min_length || s.len > NAME_MAX || !cut(s, &l) || of_services(s, &l)) continue;
		uint32_t below = l.n - domain_labels(s, &l);
		shape x = measure(s, &l, below);
		if (!carries(&x)) continue;
		int much = x.length >= 100 && x.labels >= 2;
		TOCSIN_HIT(batch, row, 1, much ? TOCSIN_HIGH : 0);
		tocsin_note_begin(&notes);
		tocsin_note_text(&notes, "domain", ((tocsin_str){s.at + l.from[below], s.len - l.from[below]}));
		tocsin_note_int(&notes, "length", x.length);
		tocsin_note_int(&notes, "labels", x.labels);
		tocsin_note_int(&notes, "longest_label", x.longest);
		tocsin_note_fixed(&notes, "entropy", (int64_t)x.entropy * 100 / 65536, 2);
		tocsin_note_int(&notes, "digits_percent", x.digits * 100 / x.length);
		tocsin_note_end(&notes);
	}
	return tocsin_notes_done(&notes);
}
