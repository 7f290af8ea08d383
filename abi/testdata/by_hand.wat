;; A detect plugin by hand, from abi/README.md alone: rows whose "n" is above 1000, which is rule 1.
;;
;;	wasm-tools parse by_hand.wat -o by_hand.wasm      (wasm-tools 1.262.0)
(module
  (memory (export "memory") 1)
  (@custom "tocsin.manifest.v1"
    "{\"abi\":{\"major\":1,\"minor\":0},\"name\":\"example.by-hand\",\"version\":\"1.0.0\",\"roles\":[\"detect\"],\"reads\":[{\"path\":\"n\",\"type\":\"i64\",\"required\":true}],\"rules\":[{\"id\":1,\"title\":\"{n} is a large number\"}]}")

  ;; the arena begins with the second page and grows
  (func (export "tocsin_arena") (param $min i32) (result i32)
    (local $pages i32)
    (local.set $pages (i32.add (i32.shr_u (i32.add (local.get $min) (i32.const 65535)) (i32.const 16)) (i32.const 1)))
    (if (i32.gt_u (local.get $pages) (memory.size))
      (then (if (i32.eq (memory.grow (i32.sub (local.get $pages) (memory.size))) (i32.const -1))
        (then (return (i32.const 0))))))
    (i32.const 65536))

  (func (export "tocsin_init") (param i32 i32) (result i32) (i32.const 0))

  (func (export "tocsin_process") (param $b i32) (result i32)
    (local $row i32) (local $data i32) (local $out i32) (local $hits i32)
    (local.set $data (i32.add (local.get $b) (i32.load offset=16 (i32.add (local.get $b) (i32.load offset=20 (local.get $b))))))
    (local.set $out (i32.add (local.get $b) (i32.load offset=28 (local.get $b))))
    (block $done
      (loop $next
        (br_if $done (i32.eq (local.get $row) (i32.load offset=12 (local.get $b))))
        (if (i64.gt_s (i64.load (i32.add (local.get $data) (i32.shl (local.get $row) (i32.const 3)))) (i64.const 1000))
          (then
            (i64.store (local.get $out) (i64.or (i64.extend_i32_u (local.get $row)) (i64.const 0x100000000))) ;; row, rule 1
            (i64.store offset=8 (local.get $out) (i64.const 0))                                              ;; severity, flags, note
            (local.set $out (i32.add (local.get $out) (i32.const 16)))
            (local.set $hits (i32.add (local.get $hits) (i32.const 1)))))
        (local.set $row (i32.add (local.get $row) (i32.const 1)))
        (br $next)))
    (i32.store offset=56 (local.get $b) (local.get $hits))
    (i32.store offset=36 (local.get $b) (i32.shl (local.get $hits) (i32.const 4)))
    (i32.const 0)))
