//! The functions of a context, collected at link time.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::sync::Arc;

use sapwood_core::{Dependencies, FunctionVersion};

use crate::consumer::Consumer;
use crate::definition::Definition;
use crate::function::{Function, Recordable, UndoOf};

/// A function's entry in the link-time register; the attributes write it.
pub struct FunctionEntry {
    dependencies: fn() -> TypeId,
    definition: fn() -> Definition,
}

inventory::collect!(FunctionEntry);

impl FunctionEntry {
    /// The entry of a function.
    #[must_use]
    pub const fn of<F: Function>() -> Self {
        Self { dependencies: TypeId::of::<F::Dependencies>, definition: Definition::of::<F> }
    }

    /// The entry of a function with one parameter.
    #[must_use]
    pub const fn undo<F: UndoOf<T>, T: Recordable>() -> Self {
        Self { dependencies: TypeId::of::<F::Dependencies>, definition: Definition::undo::<F, T> }
    }

    /// The entry of a consumer.
    #[must_use]
    pub const fn consumer<C: Consumer>() -> Self {
        Self { dependencies: TypeId::of::<C::Dependencies>, definition: Definition::consumer::<C> }
    }
}

/// The functions of one context, by name and version.
pub struct Registry {
    definitions: BTreeMap<&'static str, BTreeMap<u32, Arc<Definition>>>,
}

impl Registry {
    /// The functions that were linked in for the dependencies `D`.
    ///
    /// # Errors
    /// [`RegistryError`] if two have the same name and version.
    pub fn of<D: Dependencies>() -> Result<Self, RegistryError> {
        let entries = inventory::iter::<FunctionEntry>();
        Self::from_definitions(
            entries.filter(|entry| (entry.dependencies)() == TypeId::of::<D>()).map(|entry| (entry.definition)()),
        )
    }

    pub(crate) fn from_definitions(found: impl IntoIterator<Item = Definition>) -> Result<Self, RegistryError> {
        let mut definitions: BTreeMap<&'static str, BTreeMap<u32, Arc<Definition>>> = BTreeMap::new();
        for definition in found {
            let versions = definitions.entry(definition.name).or_default();
            if let Some(other) = versions.insert(definition.version, Arc::new(definition)) {
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

    /// All versions, for claims.
    pub(crate) fn versions(&self) -> Vec<FunctionVersion> {
        self.functions().map(Definition::versioned).collect()
    }
}

/// Two functions have the same name and version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("two functions are called {function}; give one another name, or the next version")]
pub struct RegistryError {
    /// The function.
    pub function: FunctionVersion,
}
