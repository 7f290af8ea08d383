;; One module that does, as its configuration says ({"do": N}), each of the things that a hostile or broken module may do.
;; Below 100 in tocsin_process, from 100 in tocsin_init, from 200 in tocsin_arena.
;;
;;	wasm-tools parse hostile.wat -o hostile.wasm      (wasm-tools 1.262.0)
(module
  (import "tocsin_v1" "log" (func $log (param i32 i32 i32)))
  (import "tocsin_v1" "fail" (func $fail (param i32 i32)))
  (import "tocsin_v1" "now" (func $now (param i32) (result i64)))
  (import "tocsin_v1" "random" (func $random (param i32 i32 i32) (result i32)))
  (import "tocsin_v1" "state_get" (func $state_get (param i32 i32 i32 i32) (result i64)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 2)
  (table 2 funcref)
  (elem (i32.const 0) $indirect $indirect)
  (global $do (mut i32) (i32.const 0))
  (global $calls (mut i32) (i32.const 0))
  (global $end (mut i32) (i32.const 0))
  (data (i32.const 16) "\1b[31mred\07\ff and more")
  (data (i32.const 48) "because")
  (data (i32.const 64) "{\"deep\": [1, 2, {\"x\":  \"a } b\"}]}")
  (data (i32.const 128) "{\"a\":[[[[[[[[1]]]]]]]]}")
  (@custom "tocsin.manifest.v1"
    "{\"abi\":{\"major\":1,\"minor\":0},\"name\":\"test.hostile\",\"version\":\"1.0.0\",\"roles\":[\"detect\"],\"reads\":[{\"path\":\"a\",\"type\":\"utf8\"}],\"limits\":{\"memory_mib\":64,\"fuel_per_call\":20000000},\"rules\":[{\"id\":1,\"title\":\"one\"},{\"id\":2,\"title\":\"two\"}],\"config_schema\":{\"type\":\"object\",\"properties\":{\"do\":{\"type\":\"integer\"}}}}")

  (func (export "tocsin_arena") (param $min i32) (result i32)
    (local $at i32)
    (if (i32.eq (global.get $do) (i32.const 200)) (then (return (i32.const 0))))
    (if (i32.eq (global.get $do) (i32.const 201)) (then (return (i32.const 65537))))
    (if (i32.eq (global.get $do) (i32.const 202)) (then (return (i32.const 0x7ffffff0))))
    (if (i32.eq (global.get $do) (i32.const 203)) (then (return (i32.const -16))))
    (if (i32.eq (global.get $do) (i32.const 204)) (then (return (i32.const 131056))))
    (if (i32.eq (global.get $do) (i32.const 205)) ;; further down every time
      (then
        (if (i32.eqz (global.get $end)) (then (global.set $end (i32.const 0x40000)) (drop (memory.grow (i32.const 14)))))
        (global.set $end (i32.sub (global.get $end) (i32.const 0x8000)))
        (return (global.get $end))))
    (local.set $at (i32.const 65536))
    (block $enough
      (loop $more
        (br_if $enough (i32.le_u (i32.add (local.get $at) (local.get $min)) (i32.shl (memory.size) (i32.const 16))))
        (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
      (return (i32.const 0)))
    (local.get $at))

  ;; reads N from {"do":N}
  (func (export "tocsin_init") (param $off i32) (param $len i32) (result i32)
    (local $p i32) (local $c i32) (local $n i32)
    (local.set $p (i32.add (local.get $off) (i32.add (i32.load offset=8 (local.get $off)) (i32.const 6))))
    (block $done
      (loop $digit
        (local.set $c (i32.sub (i32.load8_u (local.get $p)) (i32.const 48)))
        (br_if $done (i32.gt_u (local.get $c) (i32.const 9)))
        (local.set $n (i32.add (i32.mul (local.get $n) (i32.const 10)) (local.get $c)))
        (local.set $p (i32.add (local.get $p) (i32.const 1)))
        (br $digit)))
    (global.set $do (local.get $n))
    (if (i32.eq (global.get $do) (i32.const 100)) (then (loop $l (br $l))))
    (if (i32.eq (global.get $do) (i32.const 101)) (then unreachable))
    (if (i32.eq (global.get $do) (i32.const 102)) (then (call $exit (i32.const 3))))
    (if (i32.eq (global.get $do) (i32.const 103)) (then (call $fail (i32.const 48) (i32.const 7)) (return (i32.const -64))))
    (if (i32.eq (global.get $do) (i32.const 104)) (then (drop (call $deep (i32.const 0)))))
    (if (i32.eq (global.get $do) (i32.const 105)) (then (drop (memory.grow (i32.const 30)))))
    (if (i32.eq (global.get $do) (i32.const 106)) (then (call $grow)))
    (i32.const 0))

  (func $deep (param i32) (result i32) (i32.add (call $deeper (i32.add (local.get 0) (i32.const 1))) (i32.const 1)))
  (func $deeper (param i32) (result i32) (i32.mul (call $deep (local.get 0)) (i32.const 3)))
  (func $indirect (param i32) (result i32) (i32.add (call_indirect (param i32) (result i32) (local.get 0) (i32.and (local.get 0) (i32.const 1))) (i32.const 1)))
  ;; grows memory page by page as far as it may, and touches what it gets
  (func $grow
    (local $at i32)
    (block $full
      (loop $more
        (local.set $at (i32.shl (memory.grow (i32.const 1)) (i32.const 16)))
        (br_if $full (i32.eq (local.get $at) (i32.const -65536)))
        (i32.store (local.get $at) (i32.const 1))
        (br $more))))
  ;; n calls deep, and back
  (func $down (param $n i32) (result i32)
    (if (result i32) (i32.eqz (local.get $n)) (then (i32.const 0)) (else (i32.add (i32.const 1) (call $down (i32.sub (local.get $n) (i32.const 1)))))))
  ;; follows pointers through all of memory, each load from another page, across two lines of the cache, and waits for each
  (func $chase (param $hops i32) (result i32)
    (local $at i32)
    (if (i32.lt_u (memory.size) (i32.const 900)) (then (call $grow) (memory.fill (i32.const 0x20000) (i32.const 0) (i32.sub (i32.shl (memory.size) (i32.const 16)) (i32.const 0x20000)))))
    (loop $hop
      (local.set $at (i32.and (i32.add (i32.mul (local.get $at) (i32.const 1664525)) (i32.const 1013904223)) (i32.const 0x37fffc0)))
      (local.set $at (i32.or (local.get $at) (i32.load offset=131135 (local.get $at))))
      (local.set $hops (i32.sub (local.get $hops) (i32.const 1)))
      (br_if $hop (local.get $hops)))
    (local.get $at))
  ;; a tree of calls without a loop: 2^n
  (func $tree (param $n i32) (result i32)
    (if (result i32) (i32.eqz (local.get $n))
      (then (i32.const 1))
      (else (i32.add (call $tree (i32.sub (local.get $n) (i32.const 1))) (call $tree (i32.sub (local.get $n) (i32.const 1)))))))

  ;; writes hit k: row, rule, severity, note
  (func $hit (param $b i32) (param $k i32) (param $row i32) (param $rule i32) (param $severity i32) (param $note i32)
    (local $p i32)
    (local.set $p (i32.add (i32.add (local.get $b) (i32.load offset=28 (local.get $b))) (i32.shl (local.get $k) (i32.const 4))))
    (i32.store (local.get $p) (local.get $row))
    (i32.store offset=4 (local.get $p) (local.get $rule))
    (i32.store offset=8 (local.get $p) (local.get $severity))
    (i32.store offset=12 (local.get $p) (local.get $note)))

  ;; ends the output: so many hits, and extra bytes
  (func $out (param $b i32) (param $rows i32) (param $extra i32)
    (i32.store offset=56 (local.get $b) (local.get $rows))
    (i32.store offset=36 (local.get $b) (i32.add (i32.shl (local.get $rows) (i32.const 4)) (local.get $extra))))

  ;; puts a note of len bytes from memory[from] behind one hit, and reports the hit with it
  (func $note (param $b i32) (param $from i32) (param $len i32)
    (local $off i32)
    (local.set $off (i32.add (i32.load offset=28 (local.get $b)) (i32.const 16)))
    (i32.store (i32.add (local.get $b) (local.get $off)) (local.get $len))
    (memory.copy (i32.add (i32.add (local.get $b) (local.get $off)) (i32.const 4)) (local.get $from) (local.get $len))
    (call $hit (local.get $b) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 2) (local.get $off))
    (call $out (local.get $b) (i32.const 1) (i32.add (local.get $len) (i32.const 4))))

  ;; hits every row of which the first byte is not "x"; a row that begins with "x" is too much for it
  (func $honest (param $b i32)
    (local $i i32) (local $n i32) (local $col i32) (local $offs i32) (local $data i32)
    (local.set $col (i32.add (local.get $b) (i32.load offset=20 (local.get $b))))
    (local.set $data (i32.add (local.get $b) (i32.load offset=16 (local.get $col))))
    (local.set $offs (i32.add (local.get $b) (i32.load offset=24 (local.get $col))))
    (block $done
      (loop $row
        (br_if $done (i32.ge_u (local.get $i) (i32.load offset=12 (local.get $b))))
        (if (i32.eq (i32.load8_u (i32.add (local.get $data) (i32.load (i32.add (local.get $offs) (i32.shl (local.get $i) (i32.const 2)))))) (i32.const 120))
          (then unreachable))
        (call $hit (local.get $b) (local.get $n) (local.get $i) (i32.const 1) (i32.const 0) (i32.const 0))
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br $row)))
    (call $out (local.get $b) (local.get $n) (i32.const 0)))

  (func (export "tocsin_process") (param $b i32) (result i32)
    (local $i i32)
    (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
    (block $38 (block $37 (block $36 (block $35 (block $34 (block $33
    (block $32 (block $31 (block $30 (block $29 (block $28 (block $27 (block $26 (block $25 (block $24
    (block $23 (block $22 (block $21 (block $20 (block $19 (block $18 (block $17 (block $16
    (block $15 (block $14 (block $13 (block $12 (block $11 (block $10 (block $9 (block $8
    (block $7 (block $6 (block $5 (block $4 (block $3 (block $2 (block $1 (block $0
      (br_table $0 $1 $2 $3 $4 $5 $6 $7 $8 $9 $10 $11 $12 $13 $14 $15 $16 $17 $18 $19 $20 $21 $22 $23 $24 $25 $26 $27 $28 $29 $30 $31 $32 $33 $34 $35 $36 $37 $38 $0 (global.get $do)))
      (call $honest (local.get $b)) (return (i32.const 0)))
      (loop $l (br $l)))                                                             ;; 1
      (return (i32.sub (call $tree (i32.const 60)) (call $tree (i32.const 60)))))    ;; 2
      (return (call $deep (i32.const 0))))                                           ;; 3
      (return (call $indirect (i32.const 0))))                                       ;; 4
      (loop $l (memory.fill (i32.const 65536) (i32.const 1) (i32.const 65536)) (br $l)))  ;; 5
      (loop $l (memory.copy (i32.const 65536) (i32.const 65537) (i32.const 65000)) (br $l))) ;; 6
      (loop $l (call $log (i32.const 1) (i32.const 16) (i32.const 8)) (br $l)))      ;; 7
      unreachable)                                                                   ;; 8
      (return (i32.load (i32.const -4))))                                            ;; 9
      (return (i32.div_u (i32.const 1) (local.get $i))))                             ;; 10
      (call $exit (i32.const 0)) (return (i32.const 0)))                             ;; 11
      (memory.fill (i32.const 0) (i32.const 7) (i32.const -1)) (return (i32.const 0)))  ;; 12
      (call $out (local.get $b) (i32.const 0) (i32.const 0x7fffffff)) (return (i32.const 0)))  ;; 13
      (call $out (local.get $b) (i32.const 1) (i32.const -16)) (i32.store offset=56 (local.get $b) (i32.const 1000000000)) (return (i32.const 0))) ;; 14
      (call $hit (local.get $b) (i32.const 0) (i32.load offset=12 (local.get $b)) (i32.const 1) (i32.const 0) (i32.const 0)) (call $out (local.get $b) (i32.const 1) (i32.const 0)) (return (i32.const 0))) ;; 15
      (call $hit (local.get $b) (i32.const 0) (i32.const 0) (i32.const 2) (i32.const 0) (i32.const 0)) (call $hit (local.get $b) (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 0)) (call $out (local.get $b) (i32.const 2) (i32.const 0)) (return (i32.const 0))) ;; 16
      (call $hit (local.get $b) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 9) (i32.const 0)) (call $out (local.get $b) (i32.const 1) (i32.const 0)) (return (i32.const 0))) ;; 17
      (call $hit (local.get $b) (i32.const 0) (i32.const 0) (i32.const 3) (i32.const 0) (i32.const 0)) (call $out (local.get $b) (i32.const 1) (i32.const 0)) (return (i32.const 0))) ;; 18
      (call $hit (local.get $b) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const -1)) (call $out (local.get $b) (i32.const 1) (i32.const 0)) (return (i32.const 0))) ;; 19
      (call $note (local.get $b) (i32.const 16) (i32.const 12)) (return (i32.const 0))) ;; 20: not UTF-8
      (i64.store (local.get $b) (i64.const -1)) (i64.store offset=8 (local.get $b) (i64.const -1)) (call $out (local.get $b) (i32.const 1) (i32.const 0)) (call $hit (local.get $b) (i32.const 0) (i32.const 5000) (i32.const 1) (i32.const 0) (i32.const 0)) (return (i32.const 0))) ;; 21
      (call $log (i32.const 1) (i32.const 16) (i32.const 19)) (call $honest (local.get $b)) (return (i32.const 0))) ;; 22
      (call $log (i32.const 1) (i32.const -8) (i32.const 64)) (return (i32.const 0))) ;; 23
      (call $out (local.get $b) (i32.const 0) (i32.const 0x7fffffff)) (return (i32.const -3))) ;; 24
      (call $fail (i32.const 48) (i32.const 7)) (return (i32.const -70)))            ;; 25
      (i32.store offset=60 (local.get $b) (i32.const 1)) (return (i32.const 0)))     ;; 26
      (drop (memory.grow (i32.const 1))) (call $honest (local.get $b)) (return (i32.const 0))) ;; 27: leaks a page a call
      (loop $l (drop (memory.grow (i32.const 0))) (br $l)))                          ;; 28
      (call $log (i32.const 1) (i32.const 0) (i32.const 0x4000000)) (return (i32.const 0))) ;; 29
      ;; 30: rows that are not there, a step back, state of a module that remembers nothing: told apart by code, and no trap
      (if (i64.ne (call $now (i32.const -1)) (i64.const -8)) (then (return (i32.const -101))))
      (if (i32.ne (call $random (i32.load offset=12 (local.get $b)) (i32.const 32) (i32.const 8)) (i32.const -8)) (then (return (i32.const -102))))
      (if (i64.ne (call $state_get (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)) (i64.const -8)) (then (return (i32.const -103))))
      (if (i64.ne (call $now (i32.const 0)) (i64.const 0)) (then (return (i32.const -104))))
      (call $honest (local.get $b)) (return (i32.const 0)))
      (call $note (local.get $b) (i32.const 64) (i32.const 33)) (return (i32.const 0))) ;; 31: a good note
      (call $note (local.get $b) (i32.const 128) (i32.const 23)) (return (i32.const 0)))    ;; 32: a note too deep
      ;; 33: tells rows by their place in the batch: all but the first
      (local.set $i (i32.const 1))
      (block $done
        (loop $row
          (br_if $done (i32.ge_u (local.get $i) (i32.load offset=12 (local.get $b))))
          (call $hit (local.get $b) (i32.sub (local.get $i) (i32.const 1)) (local.get $i) (i32.const 1) (i32.const 0) (i32.const 0))
          (local.set $i (i32.add (local.get $i) (i32.const 1)))
          (br $row)))
      (call $out (local.get $b) (i32.sub (local.get $i) (i32.const 1)) (i32.const 0)) (return (i32.const 0)))
      ;; 34: leaks a little, a page every 64 calls
      (if (i32.eqz (i32.and (global.get $calls) (i32.const 63))) (then (drop (memory.grow (i32.const 1)))))
      (call $honest (local.get $b)) (return (i32.const 0)))
      (drop (call $down (i32.const 9000))) (call $honest (local.get $b)) (return (i32.const 0))) ;; 35: as deep as it may
      (call $grow) (call $honest (local.get $b)) (return (i32.const 0)))                ;; 36
      ;; 37: all of its budget but a little
      (loop $l (local.set $i (i32.add (local.get $i) (i32.const 1))) (br_if $l (i32.lt_u (local.get $i) (i32.const 2000000))))
      (call $honest (local.get $b)) (return (i32.const 0)))
    (drop (call $chase (i32.const 1000000000)))                                      ;; 38
    (i32.const 0)))
