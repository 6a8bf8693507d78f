//! The functions of a context, collected at link time.

use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use sapwood_core::retry::RetryPolicy;
use sapwood_core::{Dependencies, Event, Failure};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::activation::Cell;
use crate::consumer::{Consumer, ConsumerCx, Delivered};
use crate::replay::versioned;
use crate::{Cx, Function};

/// A function's entry in the link-time register; the attributes write it.
pub struct FunctionEntry {
    app: fn() -> TypeId,
    definition: fn() -> Definition,
}

inventory::collect!(FunctionEntry);

impl FunctionEntry {
    /// The entry of a function.
    #[must_use]
    pub const fn of<F: Function>() -> Self {
        Self { app: TypeId::of::<F::App>, definition: Definition::of::<F> }
    }

    /// The entry of a consumer.
    #[must_use]
    pub const fn consumer<C: Consumer>() -> Self {
        Self { app: TypeId::of::<C::App>, definition: Definition::consumer::<C> }
    }
}

/// What a body gave, recorded.
pub(crate) type BodyResult = Result<Bytes, BodyError>;
pub(crate) type Body = BoxFuture<'static, BodyResult>;

/// A body's error, recorded.
#[derive(Debug, Clone)]
pub(crate) struct BodyError {
    pub(crate) transient: bool,
    pub(crate) message: String,
    pub(crate) error: Bytes,
}

impl BodyError {
    pub(crate) fn of<E: Failure>(error: &E) -> Self {
        Self { transient: error.is_transient(), message: error.to_string(), error: encode(error) }
    }
}

/// The JSON of a value that is recorded. A type whose serialization fails cannot be recorded at all: the panic is
/// caught with the body's own and parks the invocation, where the message is read.
pub(crate) fn encode<T: serde::Serialize>(value: &T) -> Bytes {
    match serde_json::to_vec(value) {
        Ok(bytes) => bytes.into(),
        Err(error) => panic!("a {} cannot be recorded: {error}", std::any::type_name::<T>()),
    }
}

type Begin = fn(Arc<Cell>, &Arc<dyn Any + Send + Sync>, &[u8]) -> Result<Body, serde_json::Error>;

/// A function of a context: what is known of it without running it.
pub struct Definition {
    /// Its stable name.
    pub name: &'static str,
    /// Its version.
    pub version: u32,
    /// Its doc comment.
    pub description: &'static str,
    /// How often it is tried.
    pub retry: RetryPolicy,
    /// What starts it.
    pub trigger: Trigger,
    input_schema: fn(&mut SchemaGenerator) -> Schema,
    output_schema: fn(&mut SchemaGenerator) -> Schema,
    error_schema: fn(&mut SchemaGenerator) -> Schema,
    check_input: fn(&serde_json::Value) -> Result<(), String>,
    begin: Begin,
}

/// What starts a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trigger {
    /// A call of its context, or a start.
    Call,
    /// An event.
    Event(Subscription),
}

/// What a consumer subscribes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// The group that gets each event once.
    pub group: &'static str,
    /// The context that owns the event.
    pub source_context: &'static str,
    /// The topic.
    pub topic: String,
    /// The CloudEvents type.
    pub cloud_type: String,
    /// The CloudEvents source.
    pub source: String,
}

impl Definition {
    fn of<F: Function>() -> Self {
        Self {
            name: F::NAME,
            version: F::VERSION,
            description: F::DESCRIPTION,
            retry: F::RETRY,
            trigger: Trigger::Call,
            input_schema: |generator| generator.subschema_for::<F>(),
            output_schema: |generator| generator.subschema_for::<F::Output>(),
            error_schema: |generator| generator.subschema_for::<F::Error>(),
            check_input: reads::<F>,
            begin: |cell, app, input| {
                let input: F = serde_json::from_slice(input)?;
                let mut cx = Cx::<F::App>::new(cell, app_of(app));
                Ok(Box::pin(async move { recorded(input.run(&mut cx).await) }))
            },
        }
    }

    fn consumer<C: Consumer>() -> Self {
        let context = <<C::Event as Event>::Context as sapwood_core::BoundedContext>::NAME;
        Self {
            name: C::NAME,
            version: C::VERSION,
            description: C::DESCRIPTION,
            retry: C::RETRY,
            trigger: Trigger::Event(Subscription {
                group: C::GROUP,
                source_context: context,
                topic: C::Event::topic(),
                cloud_type: C::Event::cloud_type(),
                source: sapwood_core::event::source_of(context),
            }),
            input_schema: |generator| generator.subschema_for::<Delivered<C::Event>>(),
            output_schema: <()>::json_schema,
            error_schema: |generator| generator.subschema_for::<C::Error>(),
            check_input: reads::<Delivered<C::Event>>,
            begin: |cell, app, input| {
                let event: Delivered<C::Event> = serde_json::from_slice(input)?;
                let mut cx = ConsumerCx::<C::App>::new(Cx::new(cell, app_of(app)));
                Ok(Box::pin(async move { recorded(C::run(event, &mut cx).await) }))
            },
        }
    }

    /// `name@version`.
    #[must_use]
    pub fn versioned(&self) -> String {
        versioned(self.name, self.version)
    }

    /// The JSON Schema of its input: an object of its parameters.
    #[must_use]
    pub fn input_schema(&self) -> Schema {
        self.schema_with(self.input_schema)
    }

    /// The JSON Schema of its result.
    #[must_use]
    pub fn output_schema(&self) -> Schema {
        self.schema_with(self.output_schema)
    }

    /// The JSON Schema of its error.
    #[must_use]
    pub fn error_schema(&self) -> Schema {
        self.schema_with(self.error_schema)
    }

    /// Whether `input` is one this function can read; says where it is not, and what the decoder says.
    pub(crate) fn check_input(&self, input: &serde_json::Value) -> Result<(), String> {
        (self.check_input)(input)
    }

    /// A body at its first line.
    pub(crate) fn begin(
        &self,
        cell: Arc<Cell>,
        app: &Arc<dyn Any + Send + Sync>,
        input: &[u8],
    ) -> Result<Body, serde_json::Error> {
        (self.begin)(cell, app, input)
    }

    fn schema_with(&self, schema: fn(&mut SchemaGenerator) -> Schema) -> Schema {
        let mut generator = SchemaGenerator::default();
        let mut root = schema(&mut generator);
        let definitions = generator.take_definitions(true);
        if !definitions.is_empty() {
            root.insert("$defs".to_owned(), serde_json::Value::Object(definitions));
        }
        root
    }
}

/// The app behind its erased form; the register only hands a definition the app it was collected for.
fn app_of<A: Dependencies>(app: &Arc<dyn Any + Send + Sync>) -> Arc<A> {
    match Arc::clone(app).downcast::<A>() {
        Ok(app) => app,
        Err(_) => unreachable!("a definition is only run with the app whose register it stands in"),
    }
}

fn reads<T: serde::de::DeserializeOwned>(input: &serde_json::Value) -> Result<(), String> {
    serde_path_to_error::deserialize::<_, T>(input).map(drop).map_err(|error| match error.path().to_string().as_str() {
        "." => error.inner().to_string(),
        path => format!("`{path}`: {}", error.inner()),
    })
}

fn recorded<T: serde::Serialize, E: Failure>(result: Result<T, E>) -> BodyResult {
    match result {
        Ok(value) => Ok(encode(&value)),
        Err(error) => Err(BodyError::of(&error)),
    }
}

/// The functions of one context, by name and version.
pub struct Registry {
    definitions: BTreeMap<&'static str, BTreeMap<u32, Arc<Definition>>>,
}

impl Registry {
    /// The functions that were linked in for `A`.
    ///
    /// # Errors
    /// [`RegistryError`] where two have one name and version.
    pub fn of<A: Dependencies>() -> Result<Self, RegistryError> {
        let mut definitions: BTreeMap<&'static str, BTreeMap<u32, Arc<Definition>>> = BTreeMap::new();
        for entry in inventory::iter::<FunctionEntry>().filter(|entry| (entry.app)() == TypeId::of::<A>()) {
            let definition = Arc::new((entry.definition)());
            let versions = definitions.entry(definition.name).or_default();
            if let Some(other) = versions.insert(definition.version, definition) {
                return Err(RegistryError { function: other.versioned() });
            }
        }
        Ok(Self { definitions })
    }

    /// All functions, sorted by name, then version.
    pub fn functions(&self) -> impl Iterator<Item = &Definition> {
        self.definitions.values().flat_map(BTreeMap::values).map(AsRef::as_ref)
    }

    /// The newest version of a function.
    #[must_use]
    pub fn newest(&self, name: &str) -> Option<&Definition> {
        self.definitions.get(name)?.values().last().map(AsRef::as_ref)
    }

    /// A version of a function.
    #[must_use]
    pub fn find(&self, name: &str, version: u32) -> Option<&Definition> {
        self.shared(name, version).map(AsRef::as_ref)
    }

    pub(crate) fn shared(&self, name: &str, version: u32) -> Option<&Arc<Definition>> {
        self.definitions.get(name)?.get(&version)
    }

    /// All as `name@version`, for claims.
    pub(crate) fn versions(&self) -> Vec<String> {
        self.functions().map(Definition::versioned).collect()
    }
}

/// Two functions of one name and version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("two functions are called {function}; give one another name, or the next version")]
pub struct RegistryError {
    /// The function, as `name@version`.
    pub function: String,
}
