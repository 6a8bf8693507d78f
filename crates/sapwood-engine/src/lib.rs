//! Runs durable function trees: replays, suspends, resumes and retries them on any [`Store`](sapwood_core::store).
//! It knows nothing of HTTP, Kafka or SQL.
//!
//! | room | what is there |
//! |---|---|
//! | [`function`](Function), [`consumer`](Consumer) | functions as values: what the attributes write |
//! | [`definition`](Definition), [`trigger`](Trigger), [`registry`](Registry) | what is known of a function; what starts it; all of a context |
//! | [`payload`](Rejection), `schema` | every stored form that the engine writes; the schemas by which values from outside are judged |
//! | `cx` | the operations of a function's body, one file each |
//! | `replay` | pure: the journal goes in, decisions come out |
//! | `activation` | one run of a body, and what it shares with its driver |
//! | `tree` | one owned tree: pure decisions, and the task that drives it |
//! | `trees`, `cache`, `services`, `facts` | the trees driven here, and those kept after their release; what their drivers use; what is true of one tree |
//! | `committer`, `starting`, `starter` | group commit of turns; starts that others may contest |
//! | `clock`, `lease`, `claims`, `quarantine`, `due`, `hints` | the store's clock; live workers; claims of trees, and of those that may kill; what wakes them; hints between processes |
//! | `life`, `outage`, `setbacks`, `tasks` | how far the engine's life has come; a store that does not answer, or went back; its tasks |
//! | [`environment`](Environment), `process`, [`options`](EngineOptions) | where time, chance and tasks come from; which processes of this machine have ended; how an engine runs |
//! | [`engine`](Engine), [`tree_handle`](TreeHandle), [`govern`](Governs), [`promise`](ExternalPromise), `waiters` | the handle: start, attach, read, cancel, settle, drain |
//! | [`view`](TreeView), `outcome`, `error` | a whole tree for a reader; a child's outcome for its caller; errors |

mod activation;
mod cache;
mod claims;
mod clock;
mod committer;
mod consumer;
mod cx;
mod definition;
mod due;
mod engine;
mod environment;
mod error;
mod facts;
mod findings;
mod function;
mod govern;
mod hints;
mod lease;
mod life;
mod options;
mod outage;
mod outcome;
mod payload;
mod process;
mod promise;
mod quarantine;
mod registry;
mod replay;
mod schema;
mod services;
mod setbacks;
mod starter;
mod starting;
mod tasks;
mod transaction;
mod transactor;
mod tree;
mod tree_handle;
mod trees;
mod trigger;
mod view;
mod waiters;

pub use consumer::{Consumer, ConsumerCx, Delivered};
pub use cx::{CallHandle, Cx, PromiseHandle, SleepHandle, StartHandle, StepHandle, TransactionHandle};
pub use definition::Definition;
pub use engine::{DRAIN_WITHIN, Engine, Health};
pub use environment::{Environment, SystemEnvironment};
pub use error::{EngineError, ReadError, StartError};
pub use findings::FindingCode;
pub use function::{Call, CallableFrom, Function, Recordable, Returned, UndoOf};
pub use govern::{Effect, GovernError, Governs, MAX_ACTOR, MAX_REASON, NodeHandle};
pub use life::Stopped;
pub use options::{CachePolicy, EngineOptions};
pub use payload::{PayloadError, Rejection, RejectionKind, plain};
pub use promise::{ExternalPromise, OutcomeError, PromiseName, PromiseReadError, Settle, SettleError};
pub use registry::{FunctionEntry, Registry, RegistryError};
pub use starting::{StartOptions, StartReply};
pub use transaction::Transaction;
pub use tree_handle::{ResultError, TreeHandle};
pub use trigger::{EventTrigger, Trigger};
pub use view::{EmittedView, FindingView, NodeView, PromiseView, TreeView, WaitsOn};
