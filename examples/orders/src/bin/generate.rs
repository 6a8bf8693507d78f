//! Makes the 1,000 orders of `data/orders.jsonl`: `cargo run -p orders --bin generate > examples/orders/data/orders.jsonl`.
//!
//! The seed is fixed, so that it makes the same orders every time.

use serde_json::json;

const ORDERS: u64 = 1_000;
const SEED: u64 = 0x5a99_00d5_eed0_0001;

/// SplitMix64: small, and the same on every machine.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }
}

fn main() {
    let mut numbers = Numbers(SEED);
    for order in 1..=ORDERS {
        let lines: Vec<_> = (0..1 + numbers.below(4))
            .map(|_| {
                json!({
                    "sku": format!("sku-{:03}", numbers.below(250)),
                    "quantity": 1 + numbers.below(3),
                    "price_cents": 199 + numbers.below(9_800),
                    "unavailable": numbers.one_in(40),
                    "fail_first": if numbers.one_in(20) { 1 + numbers.below(2) } else { 0 },
                })
            })
            .collect();
        let decline = numbers.one_in(14).then(|| ["insufficient funds", "card expired"][numbers.below(2) as usize]);
        let order = json!({
            "id": format!("order-{order:04}"),
            "customer": format!("customer-{:03}", numbers.below(300)),
            "card": {
                "number": format!("4000-{:04}", numbers.below(10_000)),
                "decline": decline,
                "fail_first": if numbers.one_in(16) { 1 + numbers.below(3) } else { 0 },
            },
            "lines": lines,
        });
        println!("{order}");
    }
}
