//! Finds the keys and variants that a type accepts, aliases included, by tracing its calls to a deserializer.
//!
//! serde's derive hands the names to [`Deserializer::deserialize_struct`] and `deserialize_enum`. schemars sees no
//! aliases. A [`PathStep`] path leads to a nested type.

use std::{cell::Cell, fmt};

use serde::{
    de::{
        self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer,
        MapAccess, SeqAccess, VariantAccess, Visitor,
        value::{MapDeserializer, SeqDeserializer, UnitDeserializer},
    },
    forward_to_deserialize_any,
};

use crate::panic_barrier;

/// One step from a type to a type in it.
#[derive(Clone, Debug)]
pub(super) enum PathStep {
    /// The value of a struct's key.
    Key(String),
    /// The content of an enum's variant.
    Variant(String),
    /// The entries of a list.
    Item,
    /// The values of a map.
    Entry,
}

/// The names that a type accepts, aliases included.
#[derive(Clone, Copy, Debug)]
pub(super) enum AcceptedNames {
    /// Keys of a struct; the aliases of a field are next to its name.
    Keys(&'static [&'static str]),
    /// Variants of an enum.
    Variants(&'static [&'static str]),
}

/// Returns the names that the type at the end of `path` accepts; `None` if it does not name them.
pub(super) fn names<C: DeserializeOwned>(path: &[PathStep]) -> Option<AcceptedNames> {
    let found = Cell::new(None);
    let goal = TraceGoal::Names(&found);
    // The author's code may panic on unexpected input.
    let _ = panic_barrier::catch(|| {
        let _ = C::deserialize(TypeTracer { path, goal });
        Ok(())
    });
    found.get()
}

/// Returns the field that `alias` and `name` both mean, in the struct at the end of `path`; `None` if they are two
/// fields, or the type does not tell.
pub(super) fn same_field<C: DeserializeOwned>(
    path: &[PathStep],
    alias: &str,
    name: &str,
) -> Option<&'static str> {
    let found = Cell::new(None);
    let goal = TraceGoal::Duplicate([alias, name]);
    let _ = panic_barrier::catch(|| {
        if let Err(TraceError::Duplicate(field)) = C::deserialize(TypeTracer { path, goal }) {
            found.set(Some(field));
        }
        Ok(())
    });
    found.get()
}

/// The question at the end of the path.
#[derive(Clone, Copy)]
enum TraceGoal<'a> {
    Names(&'a Cell<Option<AcceptedNames>>),
    /// Does the struct accept both keys?
    Duplicate([&'a str; 2]),
}

/// The result of a trace; it never yields a value.
#[derive(Debug)]
enum TraceError {
    Duplicate(&'static str),
    Other,
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a config, but a look at its type")
    }
}

impl std::error::Error for TraceError {}

impl de::Error for TraceError {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self::Other
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::Duplicate(field)
    }
}

#[derive(Clone, Copy)]
struct TypeTracer<'a> {
    path: &'a [PathStep],
    goal: TraceGoal<'a>,
}

impl<'a> TypeTracer<'a> {
    fn fields<'de, V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TraceError> {
        match (self.path, self.goal) {
            ([], TraceGoal::Names(found)) => {
                found.set(Some(AcceptedNames::Keys(fields)));
                Err(TraceError::Other)
            }
            ([], TraceGoal::Duplicate(pair)) => {
                let pair = pair.into_iter().map(|key| (key, AnyScalar));
                visitor.visit_map(MapDeserializer::new(pair))
            }
            ([PathStep::Key(key), ..], _) => visitor.visit_map(SingleEntryAccess::new(key, self)),
            _ => Err(TraceError::Other),
        }
    }

    fn next(self) -> Self {
        let path = self.path.split_first().map_or(self.path, |(_, rest)| rest);
        Self { path, ..self }
    }
}

impl<'de> Deserializer<'de> for TypeTracer<'_> {
    type Error = TraceError;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, TraceError> {
        Err(TraceError::Other)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TraceError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, TraceError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TraceError> {
        match self.path {
            [PathStep::Item, ..] => visitor.visit_seq(SingleEntryAccess::new("", self)),
            _ => Err(TraceError::Other),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TraceError> {
        match self.path {
            [PathStep::Entry, ..] => visitor.visit_map(SingleEntryAccess::new("key", self)),
            // A struct with flattened parts.
            [PathStep::Key(key), ..] => visitor.visit_map(SingleEntryAccess::new(key, self)),
            _ => Err(TraceError::Other),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TraceError> {
        self.fields(fields, visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TraceError> {
        match (self.path, self.goal) {
            ([], TraceGoal::Names(found)) => {
                found.set(Some(AcceptedNames::Variants(variants)));
                Err(TraceError::Other)
            }
            ([PathStep::Variant(variant), ..], _) => {
                visitor.visit_enum(SingleEntryAccess::new(variant, self))
            }
            _ => Err(TraceError::Other),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct tuple
        tuple_struct identifier ignored_any
    }
}

/// The one entry of a table, list or enum that is on the path.
struct SingleEntryAccess<'a> {
    key: Option<&'a str>,
    value: Option<TypeTracer<'a>>,
}

impl<'a> SingleEntryAccess<'a> {
    fn new(key: &'a str, tracer: TypeTracer<'a>) -> Self {
        Self {
            key: Some(key),
            value: Some(tracer.next()),
        }
    }
}

impl<'de> MapAccess<'de> for SingleEntryAccess<'_> {
    type Error = TraceError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, TraceError> {
        let key = self.key.take();
        key.map(|key| seed.deserialize(key.into_deserializer()))
            .transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, TraceError> {
        seed.deserialize(self.value.take().ok_or(TraceError::Other)?)
    }
}

impl<'de> SeqAccess<'de> for SingleEntryAccess<'_> {
    type Error = TraceError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, TraceError> {
        let value = self.value.take();
        value.map(|value| seed.deserialize(value)).transpose()
    }
}

impl<'de, 'a> EnumAccess<'de> for SingleEntryAccess<'a> {
    type Error = TraceError;
    type Variant = TypeTracer<'a>;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, TypeTracer<'a>), TraceError> {
        let (Some(key), Some(value)) = (self.key, self.value) else {
            return Err(TraceError::Other);
        };
        let key: de::value::StrDeserializer<'_, TraceError> = key.into_deserializer();
        Ok((seed.deserialize(key)?, value))
    }
}

impl<'de> VariantAccess<'de> for TypeTracer<'_> {
    type Error = TraceError;

    fn unit_variant(self) -> Result<(), TraceError> {
        Err(TraceError::Other)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<T::Value, TraceError> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, TraceError> {
        Err(TraceError::Other)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TraceError> {
        self.fields(fields, visitor)
    }
}

/// A value of whatever simple type is requested.
#[derive(Clone, Copy)]
struct AnyScalar;

impl<'de> IntoDeserializer<'de, TraceError> for AnyScalar {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// The methods that return one value each.
macro_rules! answers {
    ($($method:ident => $visit:ident($($value:expr)?),)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TraceError> {
            visitor.$visit($($value)?)
        })*
    };
}

impl<'de> Deserializer<'de> for AnyScalar {
    type Error = TraceError;

    answers! {
        deserialize_any => visit_unit(),
        deserialize_bool => visit_bool(false),
        deserialize_i8 => visit_u8(1),
        deserialize_i16 => visit_u8(1),
        deserialize_i32 => visit_u8(1),
        deserialize_i64 => visit_u8(1),
        deserialize_i128 => visit_u8(1),
        deserialize_u8 => visit_u8(1),
        deserialize_u16 => visit_u8(1),
        deserialize_u32 => visit_u8(1),
        deserialize_u64 => visit_u8(1),
        deserialize_u128 => visit_u8(1),
        deserialize_f32 => visit_f64(1.0),
        deserialize_f64 => visit_f64(1.0),
        deserialize_char => visit_char('x'),
        deserialize_str => visit_str("x"),
        deserialize_string => visit_str("x"),
        deserialize_identifier => visit_str("x"),
        deserialize_bytes => visit_bytes(b"x"),
        deserialize_byte_buf => visit_bytes(b"x"),
        deserialize_unit => visit_unit(),
        deserialize_ignored_any => visit_unit(),
        deserialize_option => visit_none(),
        deserialize_seq => visit_seq(SeqDeserializer::<_, TraceError>::new(std::iter::empty::<UnitDeserializer<TraceError>>())),
        deserialize_map => visit_map(MapDeserializer::new(std::iter::empty::<(&str, Self)>())),
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, TraceError> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, TraceError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TraceError> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TraceError> {
        let first = variants.first().ok_or(TraceError::Other)?;
        let first: de::value::StrDeserializer<'_, TraceError> = (*first).into_deserializer();
        visitor.visit_enum(first)
    }

    forward_to_deserialize_any! { tuple tuple_struct }
}
