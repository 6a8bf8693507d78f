//! A function of a context: what is known of it without running it, and how a body of it begins.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sapwood_core::deadline::GRACE;
use sapwood_core::json::canonical::reserved_key;
use sapwood_core::retry::{OnExhausted, RetryPolicy};
use sapwood_core::{BoundedContext, Dependencies, Event, FunctionVersion};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::activation::{Body, Cell, panic_message};
use crate::consumer::{Consumer, ConsumerCx, Delivered};
use crate::cx::Cx;
use crate::function::{Function, Recordable, UndoOf};
use crate::payload::{PayloadError, body_result, decode, plain, record};
use crate::trigger::{EventTrigger, Trigger};

/// The dependencies of a context, with their type erased.
pub(crate) type AnyDependencies = Arc<dyn Any + Send + Sync>;

/// The input of an undo, made of the recorded result of what it undoes.
type UndoInput = fn(&[u8]) -> Result<Bytes, PayloadError>;

type Begin = fn(Arc<Cell>, &AnyDependencies, &[u8]) -> Result<Body, PayloadError>;

/// A function of a context: what is known of it without running it.
pub struct Definition {
    /// Its stable name.
    pub name: &'static str,
    /// Its version.
    pub version: u32,
    /// Its doc comment.
    pub description: &'static str,
    /// Where its source is, as `file:line:column`; empty if it was not written by the attribute.
    pub location: &'static str,
    /// How often it is attempted.
    pub retry: RetryPolicy,
    /// What becomes of it when its attempts are over.
    pub on_exhausted: OnExhausted,
    /// How long it may take, if its call says nothing else.
    pub deadline: Option<Duration>,
    /// How long it may undo what it did beyond its deadline.
    pub grace: Duration,
    /// What starts it.
    pub trigger: Trigger,
    input_schema: fn(&mut SchemaGenerator) -> Schema,
    output_schema: fn(&mut SchemaGenerator) -> Schema,
    error_schema: fn(&mut SchemaGenerator) -> Schema,
    read_input: fn(&[u8]) -> Result<Bytes, String>,
    undo_input: Option<UndoInput>,
    begin: Begin,
}

impl Definition {
    pub(crate) fn of<F: Function>() -> Self {
        Self {
            name: F::NAME,
            version: F::VERSION,
            description: F::DESCRIPTION,
            location: F::LOCATION,
            retry: F::RETRY,
            on_exhausted: F::ON_EXHAUSTED,
            deadline: F::DEADLINE,
            grace: F::GRACE,
            trigger: Trigger::Call,
            input_schema: |generator| generator.subschema_for::<F>(),
            output_schema: |generator| generator.subschema_for::<F::Output>(),
            error_schema: |generator| generator.subschema_for::<F::Error>(),
            read_input: reread::<F>,
            undo_input: None,
            begin: |cell, dependencies, input| {
                let input: F = decode(input)?;
                let mut cx = Cx::<F::Dependencies>::new(cell, typed(dependencies));
                Ok(Box::pin(async move { body_result(input.run(&mut cx).await) }))
            },
        }
    }

    /// A function with one parameter: it may undo calls.
    pub(crate) fn undo<F: UndoOf<T>, T: Recordable>() -> Self {
        let undo_input: UndoInput = |result| {
            let input = F::of_result(decode::<T>(result)?);
            record(&input).map_err(|error| PayloadError::NotRecordable(error.to_string()))
        };
        Self { undo_input: Some(undo_input), ..Self::of::<F>() }
    }

    pub(crate) fn consumer<C: Consumer>() -> Self {
        let context = <<C::Event as Event>::Context as BoundedContext>::NAME;
        Self {
            name: C::NAME,
            version: C::VERSION,
            description: C::DESCRIPTION,
            location: C::LOCATION,
            retry: C::RETRY,
            on_exhausted: C::ON_EXHAUSTED,
            deadline: None,
            grace: GRACE,
            trigger: Trigger::Event(EventTrigger {
                group: C::GROUP,
                source_context: context,
                topic: C::Event::topic(),
                cloud_type: C::Event::cloud_type(),
                source: sapwood_core::event::source_of(context),
            }),
            input_schema: |generator| generator.subschema_for::<Delivered<C::Event>>(),
            output_schema: <()>::json_schema,
            error_schema: |generator| generator.subschema_for::<C::Error>(),
            read_input: reread::<Delivered<C::Event>>,
            undo_input: None,
            begin: |cell, dependencies, input| {
                let event: Delivered<C::Event> = decode(input)?;
                let mut cx = ConsumerCx::<C::Dependencies>::new(Cx::new(cell, typed(dependencies)));
                Ok(Box::pin(async move { body_result(C::run(event, &mut cx).await) }))
            },
        }
    }

    /// Its name and version.
    #[must_use]
    pub fn versioned(&self) -> FunctionVersion {
        FunctionVersion::new(self.name, self.version)
    }

    /// The JSON Schema of its input: an object of its parameters.
    #[must_use]
    pub fn input_schema(&self) -> Schema {
        schema_with(self.input_schema)
    }

    /// The JSON Schema of its result.
    #[must_use]
    pub fn output_schema(&self) -> Schema {
        schema_with(self.output_schema)
    }

    /// The JSON Schema of its error.
    #[must_use]
    pub fn error_schema(&self) -> Schema {
        schema_with(self.error_schema)
    }

    /// An input as this function's type encodes it: with the defaults of fields that it does not have.
    ///
    /// # Errors
    /// In words, the field that the function cannot read, or does not have.
    pub(crate) fn read_input(&self, input: &[u8]) -> Result<Bytes, String> {
        (self.read_input)(input)
    }

    /// Its input as an undo of what gave this recorded result.
    ///
    /// # Errors
    /// [`PayloadError`] if the result is not of the type of its parameter, or it has not one parameter.
    pub(crate) fn undo_input(&self, result: &[u8]) -> Result<Bytes, PayloadError> {
        match self.undo_input {
            // To read the result, and to write the input, is an author's code, which may panic.
            Some(undo_input) => catch_unwind(AssertUnwindSafe(|| undo_input(result)))
                .unwrap_or_else(|payload| Err(PayloadError::Panic(panic_message(payload)))),
            None => Err(PayloadError::NotRecordable(format!("{} has not one parameter", self.versioned()))),
        }
    }

    /// A body at its first line.
    pub(crate) fn begin(
        &self,
        cell: Arc<Cell>,
        dependencies: &AnyDependencies,
        input: &[u8],
    ) -> Result<Body, PayloadError> {
        (self.begin)(cell, dependencies, input)
    }
}

fn schema_with(schema: fn(&mut SchemaGenerator) -> Schema) -> Schema {
    let mut generator = SchemaGenerator::default();
    let mut root = schema(&mut generator);
    let definitions = generator.take_definitions(true);
    if !definitions.is_empty() {
        root.insert("$defs".to_owned(), serde_json::Value::Object(definitions));
    }
    root
}

/// The dependencies by their type. A definition gets only those for which its registry was collected.
fn typed<D: Dependencies>(dependencies: &AnyDependencies) -> Arc<D> {
    match Arc::clone(dependencies).downcast::<D>() {
        Ok(dependencies) => dependencies,
        Err(_) => unreachable!("a definition runs only with the dependencies whose registry it is in"),
    }
}

/// Reads a `T`, and gives it as it is recorded. Fields that a `T` does not have are refused at any depth: a caller who
/// misspells an optional field would else never hear of it.
fn reread<T: Recordable>(input: &[u8]) -> Result<Bytes, String> {
    if let Some(key) = reserved_key(input) {
        return Err(format!("the key `{key}` has a meaning of its own to its reader"));
    }
    let mut unknown = None;
    let mut json = serde_json::Deserializer::from_slice(plain(input).map_err(|error| error.to_string())?);
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(&mut json, &mut track);
    let read = serde_ignored::deserialize(tracked, |path| {
        unknown.get_or_insert_with(|| path.to_string());
    });
    let value: T = match read.and_then(|value| json.end().map(|()| value)) {
        Ok(value) => value,
        Err(error) => {
            return Err(match track.path().to_string().as_str() {
                "." => error.to_string(),
                path => format!("`{path}`: {error}"),
            });
        }
    };
    match unknown {
        Some(path) => Err(format!("`{path}`: there is no such field")),
        None => record(&value).map_err(|error| error.to_string()),
    }
}
