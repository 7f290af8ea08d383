package match

import (
	"bytes"
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// mappedBits is where the IPv4 address begins in an IPv6 address that maps one, ::ffff:a.b.c.d.
const mappedBits = 96

// network reads a network, or an address, which is a network of one.
func (c *compiler) network(n *yaml.Node, k key) (literal, bool) {
	text, ok := c.expanded(n, k)
	if !ok {
		return literal{}, false
	}
	p, err := netip.ParsePrefix(text)
	if err != nil && !strings.Contains(text, "/") {
		var a netip.Addr
		if a, err = netip.ParseAddr(text); err == nil && a.Zone() == "" {
			p = netip.PrefixFrom(a, a.BitLen())
		}
	}
	switch {
	case err != nil || !p.IsValid():
		c.problem(n, "%q is not a network: write an address and the bits of its mask, such as 10.0.0.0/8 or 2001:db8::/32", brief(n.Value))
		return literal{}, false
	case p != p.Masked():
		c.problem(n, "%s has bits behind its mask; the network is %s", brief(n.Value), p.Masked())
		return literal{}, false
	}
	if a := p.Addr(); a.Is4In6() && p.Bits() >= mappedBits {
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-mappedBits)
	}
	return literal{kind: literalNetworks, test: testNetwork, nets: []netip.Prefix{p}}, true
}

// union makes one literal of several networks: sorted, without those within others, so that one search finds an address
// among thousands.
func union(literals []literal) literal {
	var all []netip.Prefix
	for _, l := range literals {
		all = append(all, l.nets...)
	}
	slices.SortFunc(all, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	nets := all[:0]
	for _, p := range all {
		if len(nets) == 0 || !nets[len(nets)-1].Overlaps(p) {
			nets = append(nets, p)
		}
	}
	return literal{kind: literalNetworks, test: testNetwork, nets: nets}
}

// contain says whether a text is an address in one of the networks, which are as union leaves them.
func contain(nets []netip.Prefix, text []byte) bool {
	a, ok := ParseAddr(text)
	if !ok {
		return false
	}
	a = a.Unmap()
	i, found := slices.BinarySearchFunc(nets, a, func(p netip.Prefix, a netip.Addr) int { return p.Addr().Compare(a) })
	return found || i > 0 && nets[i-1].Contains(a)
}

func appendNetworks(dst []byte, nets []netip.Prefix) []byte {
	if len(nets) == 1 {
		return nets[0].AppendTo(dst)
	}
	dst = append(dst, '[')
	for i, p := range nets {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = p.AppendTo(dst)
	}
	return append(dst, ']')
}

// ParseAddr reads an address as netip.ParseAddr does, which takes a string and so costs an allocation. A zone is no part of
// an address.
func ParseAddr(b []byte) (netip.Addr, bool) {
	if bytes.IndexByte(b, ':') < 0 {
		four, ok := parse4(b)
		return netip.AddrFrom4(four), ok
	}
	if i := bytes.IndexByte(b, '%'); i >= 0 && i+1 < len(b) {
		b = b[:i]
	}
	sixteen, ok := parse6(b)
	return netip.AddrFrom16(sixteen), ok
}

// parse4 reads four numbers up to 255 without leading zeros.
func parse4(b []byte) (addr [4]byte, ok bool) {
	at, digits, n := 0, 0, 0
	for _, c := range b {
		switch {
		case c == '.' && digits > 0 && at < 3:
			addr[at] = byte(n)
			at, digits, n = at+1, 0, 0
		case c < '0' || c > '9' || digits > 0 && n == 0:
			return addr, false
		default:
			digits, n = digits+1, n*10+int(c-'0')
			if n > 255 {
				return addr, false
			}
		}
	}
	addr[at] = byte(n)
	return addr, at == 3 && digits > 0
}

// parse6 reads eight groups of up to four hexadecimal digits, of which one run of zeros may be `::`, and the last two an IPv4
// address.
func parse6(b []byte) (addr [16]byte, ok bool) {
	at, gap := 0, -1 // the next byte, and where :: stands
	if bytes.HasPrefix(b, []byte("::")) {
		gap, b = 0, b[2:]
	}
	for len(b) > 0 {
		group, n := hexGroup(b)
		switch {
		case n == 0 || at == 16:
			return addr, false
		case n < len(b) && b[n] == '.':
			four, ok := parse4(b)
			if !ok || at > 12 {
				return addr, false
			}
			copy(addr[at:], four[:])
			at, b = at+4, nil
			continue
		}
		addr[at], addr[at+1] = byte(group>>8), byte(group)
		at, b = at+2, b[n:]
		switch {
		case len(b) == 0:
		case b[0] != ':' || len(b) == 1:
			return addr, false
		case b[1] != ':':
			b = b[1:]
		case gap >= 0:
			return addr, false
		default:
			gap, b = at, b[2:]
		}
	}
	if gap < 0 {
		return addr, at == 16
	}
	if at == 16 {
		return addr, false // :: is one group at least
	}
	n := copy(addr[16-(at-gap):], addr[gap:at])
	clear(addr[gap : 16-n])
	return addr, true
}

// hexGroup returns the number of up to four hexadecimal digits at the start, and how many there are; 0 if there are more.
func hexGroup(b []byte) (group uint16, n int) {
	for ; n < len(b); n++ {
		c := b[n]
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return group, n
		}
		if n == 4 {
			return 0, 0
		}
		group = group<<4 | uint16(c)
	}
	return group, n
}
