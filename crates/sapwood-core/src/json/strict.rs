//! The encoder of everything that is recorded: it refuses what JSON cannot hold or a reader cannot read (R6).
//!
//! `serde_json` writes NaN and infinity as `null`, and writes values that are nested deeper than it reads. Both would
//! be found only at a replay, after the effects. This serializer stands before `serde_json`'s own and refuses both.

use std::fmt::Display;

use serde::ser::{self, Error, Serialize};

/// How deep a recorded value may be nested. `serde_json` reads 127 levels; the rest is room for the envelope of an event
/// and for what an author's program puts around a value that it received.
pub const MAX_DEPTH: usize = 100;

/// The key that `serde_json` reads as raw JSON: a map with it would come back as what is written under it.
pub(super) const RESERVED_KEY: &str = "$serde_json::private::RawValue";

/// A value that cannot be recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a value of type {type_name} cannot be recorded: {reason}")]
pub struct NotRecordable {
    /// The type, as the compiler names it.
    pub type_name: &'static str,
    /// Why, with the place inside of the value.
    pub reason: String,
}

impl NotRecordable {
    /// A value of type `T` that cannot be recorded.
    pub fn new<T: ?Sized>(reason: impl Into<String>) -> Self {
        Self { type_name: std::any::type_name::<T>(), reason: reason.into() }
    }
}

/// A value as compact JSON that can be read back.
///
/// # Errors
/// [`NotRecordable`] for numbers that are not finite, for more than [`MAX_DEPTH`] levels, for keys that are no text,
/// and for whatever the type's own `Serialize` refuses.
pub fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, NotRecordable> {
    let mut written = Vec::with_capacity(128);
    match value.serialize(Strict::around(&mut serde_json::Serializer::new(&mut written))) {
        Ok(()) => Ok(written),
        Err(error) => Err(NotRecordable::new::<T>(located(value).unwrap_or_else(|| error.to_string()))),
    }
}

/// What is wrong with a value that could not be written, and where. Written a second time for that, because keeping
/// track of the place would slow down every value that is fine.
fn located<T: Serialize + ?Sized>(value: &T) -> Option<String> {
    let mut sink = serde_json::Serializer::new(std::io::sink());
    let error = serde_path_to_error::serialize(value, Strict::around(&mut sink)).err()?;
    let path = error.path().to_string();
    Some(if path == "." { error.inner().to_string() } else { format!("`{path}`: {}", error.inner()) })
}

/// A serializer that refuses what cannot be read back, and gives everything else to the one inside.
struct Strict<S> {
    inner: S,
    /// How many levels may still be opened.
    levels: usize,
    /// Whether what is written is the key of a map.
    is_key: bool,
}

impl<S> Strict<S> {
    const fn around(inner: S) -> Self {
        Self { inner, levels: MAX_DEPTH, is_key: false }
    }
}

impl<S: ser::Serializer> Strict<S> {
    /// The levels that are left inside of a compound that opens so many of them now.
    fn open(&self, levels: usize) -> Result<usize, S::Error> {
        self.levels.checked_sub(levels).ok_or_else(|| S::Error::custom(format!("more than {MAX_DEPTH} levels deep")))
    }
}

/// A value inside of another.
struct Inside<'a, T: ?Sized> {
    value: &'a T,
    levels: usize,
}

impl<T: Serialize + ?Sized> Serialize for Inside<'_, T> {
    fn serialize<S: ser::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(Strict { inner: serializer, levels: self.levels, is_key: false })
    }
}

/// The key of a map.
struct Key<'a, T: ?Sized> {
    key: &'a T,
    levels: usize,
}

impl<T: Serialize + ?Sized> Serialize for Key<'_, T> {
    fn serialize<S: ser::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.key.serialize(Strict { inner: serializer, levels: self.levels, is_key: true })
    }
}

fn finite<E: Error>(number: impl Into<f64> + Copy) -> Result<(), E> {
    let number: f64 = number.into();
    if number.is_finite() { Ok(()) } else { Err(E::custom(format!("{number} is not a number that JSON can hold"))) }
}

/// Methods that only pass a value on.
macro_rules! passed_on {
    ($($method:ident($($argument:ident: $type:ty),*);)*) => {
        $(fn $method(self $(, $argument: $type)*) -> Result<S::Ok, S::Error> {
            self.inner.$method($($argument),*)
        })*
    };
}

/// Methods that open a compound; a variant with parts is an object around it, so it opens two levels.
macro_rules! opened {
    ($($method:ident($($argument:ident: $type:ty),*) -> $compound:ident, $levels:literal;)*) => {
        $(fn $method(self $(, $argument: $type)*) -> Result<Self::$compound, S::Error> {
            let levels = self.open($levels)?;
            Ok(Compound { inner: self.inner.$method($($argument),*)?, levels })
        })*
    };
}

impl<S: ser::Serializer> ser::Serializer for Strict<S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Compound<S::SerializeSeq>;
    type SerializeTuple = Compound<S::SerializeTuple>;
    type SerializeTupleStruct = Compound<S::SerializeTupleStruct>;
    type SerializeTupleVariant = Compound<S::SerializeTupleVariant>;
    type SerializeMap = Compound<S::SerializeMap>;
    type SerializeStruct = Compound<S::SerializeStruct>;
    type SerializeStructVariant = Compound<S::SerializeStructVariant>;

    passed_on! {
        serialize_bool(value: bool);
        serialize_i8(value: i8);
        serialize_i16(value: i16);
        serialize_i32(value: i32);
        serialize_i64(value: i64);
        serialize_i128(value: i128);
        serialize_u8(value: u8);
        serialize_u16(value: u16);
        serialize_u32(value: u32);
        serialize_u64(value: u64);
        serialize_u128(value: u128);
        serialize_char(value: char);
        serialize_bytes(value: &[u8]);
        serialize_none();
        serialize_unit();
        serialize_unit_struct(name: &'static str);
        serialize_unit_variant(name: &'static str, index: u32, variant: &'static str);
    }

    opened! {
        serialize_seq(len: Option<usize>) -> SerializeSeq, 1;
        serialize_tuple(len: usize) -> SerializeTuple, 1;
        serialize_tuple_struct(name: &'static str, len: usize) -> SerializeTupleStruct, 1;
        serialize_tuple_variant(name: &'static str, index: u32, variant: &'static str, len: usize)
            -> SerializeTupleVariant, 2;
        serialize_map(len: Option<usize>) -> SerializeMap, 1;
        serialize_struct(name: &'static str, len: usize) -> SerializeStruct, 1;
        serialize_struct_variant(name: &'static str, index: u32, variant: &'static str, len: usize)
            -> SerializeStructVariant, 2;
    }

    fn serialize_str(self, value: &str) -> Result<S::Ok, S::Error> {
        if self.is_key && value == RESERVED_KEY {
            return Err(S::Error::custom(format!("the key `{RESERVED_KEY}` has a meaning of its own to its reader")));
        }
        self.inner.serialize_str(value)
    }

    fn serialize_f32(self, value: f32) -> Result<S::Ok, S::Error> {
        finite(value)?;
        self.inner.serialize_f32(value)
    }

    fn serialize_f64(self, value: f64) -> Result<S::Ok, S::Error> {
        finite(value)?;
        self.inner.serialize_f64(value)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        // No level of JSON, but a level of the stack: types that nest by `Option<Box<..>>` alone end here as well.
        let levels = self.open(1)?;
        self.inner.serialize_some(&Inside { value, levels })
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Result<S::Ok, S::Error> {
        if self.is_key {
            return self.inner.serialize_newtype_struct(name, &Key { key: value, levels: self.levels });
        }
        self.inner.serialize_newtype_struct(name, &Inside { value, levels: self.levels })
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let levels = self.open(1)?;
        self.inner.serialize_newtype_variant(name, index, variant, &Inside { value, levels })
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.collect_str(value)
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

/// A compound whose parts are checked as well.
struct Compound<C> {
    inner: C,
    levels: usize,
}

/// The compounds whose parts have no names, and those whose parts have one.
macro_rules! compound {
    ($($trait:ident: $method:ident($($name:ident: $type:ty)?);)*) => {
        $(impl<C: ser::$trait> ser::$trait for Compound<C> {
            type Ok = C::Ok;
            type Error = C::Error;

            fn $method<T: Serialize + ?Sized>(&mut self, $($name: $type,)? value: &T) -> Result<(), C::Error> {
                let levels = self.levels;
                self.inner.$method($($name,)? &Inside { value, levels })
            }

            fn end(self) -> Result<C::Ok, C::Error> {
                self.inner.end()
            }
        })*
    };
}

compound! {
    SerializeSeq: serialize_element();
    SerializeTuple: serialize_element();
    SerializeTupleStruct: serialize_field();
    SerializeTupleVariant: serialize_field();
    SerializeStruct: serialize_field(name: &'static str);
    SerializeStructVariant: serialize_field(name: &'static str);
}

impl<C: ser::SerializeMap> ser::SerializeMap for Compound<C> {
    type Ok = C::Ok;
    type Error = C::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), C::Error> {
        self.inner.serialize_key(&Key { key, levels: self.levels })
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
        let levels = self.levels;
        self.inner.serialize_value(&Inside { value, levels })
    }

    fn end(self) -> Result<C::Ok, C::Error> {
        self.inner.end()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Serialize};
    use serde_json::value::RawValue;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Deep {
        Leaf,
        List(Vec<Deep>),
        Next(Box<Deep>),
        Fields { next: Box<Deep> },
        Pair(Box<Deep>, u8),
        Map(BTreeMap<String, Deep>),
        Maybe(Option<Box<Deep>>),
    }

    fn wrap(by: &str, inside: Deep) -> Deep {
        match by {
            "list" => Deep::List(vec![inside]),
            "next" => Deep::Next(Box::new(inside)),
            "fields" => Deep::Fields { next: Box::new(inside) },
            "pair" => Deep::Pair(Box::new(inside), 1),
            "map" => Deep::Map(BTreeMap::from([("k".to_owned(), inside)])),
            _ => Deep::Maybe(Some(Box::new(inside))),
        }
    }

    fn refused<T: Serialize>(value: &T) -> String {
        to_vec(value).expect_err("it cannot be read back").to_string()
    }

    /// R6: the depth is bounded in every way in which values nest, and what is within the bound can be read.
    #[test]
    fn what_is_written_is_no_deeper_than_what_is_read() {
        for by in ["list", "next", "fields", "pair", "map", "maybe"] {
            let mut value = Deep::Leaf;
            let mut deepest = 0;
            for depth in 1..=MAX_DEPTH + 1 {
                value = wrap(by, value);
                let Ok(written) = to_vec(&value) else { break };
                let read: Deep =
                    serde_json::from_slice(&written).unwrap_or_else(|error| panic!("{by} {depth}: {error}"));
                assert_eq!(read, value);
                deepest = depth;
            }
            assert!((MAX_DEPTH / 3..=MAX_DEPTH).contains(&deepest), "{by}: {deepest}");
            let message = refused(&wrap(by, value));
            assert!(message.contains("levels deep") && message.contains("Deep"), "{message}");
        }
    }

    /// R6: numbers that JSON does not have are refused wherever they stand, and the message says where that is.
    #[test]
    fn a_number_that_is_not_finite_is_refused_with_its_place() {
        #[derive(Serialize)]
        struct Line {
            weight: f64,
        }
        #[derive(Serialize)]
        struct Order {
            lines: Vec<Line>,
            most: Option<f32>,
        }
        let order = |weight, most| Order { lines: vec![Line { weight: 1.0 }, Line { weight }], most };
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(refused(&order(bad, None)).contains("`lines[1].weight`"), "{}", refused(&order(bad, None)));
        }
        assert!(refused(&order(1.0, Some(f32::NAN))).contains("`most`"));
        assert!(refused(&BTreeMap::from([("a", f64::NAN)])).contains("`a`"));
        assert!(refused(&(1, f64::NAN)).contains("NaN"));
        assert!(refused(&f32::INFINITY).contains("inf"));
        assert!(to_vec(&order(f64::MAX, Some(f32::MIN_POSITIVE))).is_ok());
    }

    /// R6: a key that its reader takes for something else is refused, in every map and under every type of key.
    #[test]
    fn a_key_with_a_meaning_of_its_own_is_refused() {
        #[derive(PartialEq, Eq, PartialOrd, Ord, Serialize)]
        struct Wrapped(&'static str);
        let value = serde_json::json!({ RESERVED_KEY: "12" });
        assert!(refused(&value).contains(RESERVED_KEY));
        assert!(refused(&vec![Some(value)]).contains(RESERVED_KEY));
        assert!(refused(&BTreeMap::from([(Wrapped(RESERVED_KEY), 1)])).contains(RESERVED_KEY));
        assert!(to_vec(&BTreeMap::from([("key", RESERVED_KEY)])).is_ok(), "it is a value there");
        assert!(to_vec(&RESERVED_KEY).is_ok());
    }

    /// R6: everything else is written as `serde_json` writes it, and numbers come back as the same numbers.
    #[test]
    fn what_can_be_read_is_written_unchanged() {
        fn same<T: Serialize + for<'a> Deserialize<'a> + PartialEq + std::fmt::Debug>(value: T) {
            let written = to_vec(&value).expect("recordable");
            assert_eq!(written, serde_json::to_vec(&value).expect("JSON"));
            assert_eq!(serde_json::from_slice::<T>(&written).expect("readable"), value);
        }
        same((i128::MIN, u128::MAX, u64::MAX, i64::MIN));
        same((f64::MIN_POSITIVE, f64::MAX, -0.0, 0.1 + 0.2, 5e-324, f32::MAX));
        same(("\u{0}\u{1f}\"\\\u{10ffff}".to_owned(), 'x', true, ()));
        same((Some(Some(1)), None::<u8>, vec![0_u8, 255]));
        same(BTreeMap::from([(u64::MAX, "key")].map(|(k, v)| (k, v.to_owned()))));
        let raw = RawValue::from_string("{\"as\" : 1.50}".to_owned()).expect("JSON");
        assert_eq!(to_vec(&raw).expect("recordable"), raw.get().as_bytes());
        // Numbers without a short form: every one of them is read back bit by bit.
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..10_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let number = f64::from_bits(seed);
            if number.is_finite() {
                let read: f64 = serde_json::from_slice(&to_vec(&number).expect("finite")).expect("a number");
                assert_eq!(read.to_bits(), number.to_bits());
            }
        }
    }
}
