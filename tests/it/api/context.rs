//! The context whose API is tested.

use std::sync::Arc;
use std::time::Duration;

use sapwood::prelude::*;
use sapwood_tests::probe::Probe;

pub(crate) const HOUR: Duration = Duration::from_secs(3_600);

/// The parcels context.
#[derive(BoundedContext)]
#[context(name = "parcels")]
pub(crate) struct Parcels;

/// What its functions use.
#[derive(Default, Dependencies)]
#[dependencies(of = Parcels)]
pub(crate) struct ParcelsApp {
    /// A step of `scan` waits at its gate `scanner`.
    pub(crate) probe: Arc<Probe>,
}

/// A parcel was sent.
#[derive(Event, Serialize, Deserialize, JsonSchema)]
#[event(context = Parcels, name = "parcel-sent", version = 1, key = parcel)]
pub(crate) struct ParcelSent {
    /// The parcel.
    pub(crate) parcel: String,
}

/// What is sent.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Parcel {
    /// Its name; one that is called `lost` cannot be found.
    pub(crate) name: String,
    /// Its contents.
    #[serde(default)]
    pub(crate) contents: Vec<String>,
}

/// What the sender gets.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Receipt {
    /// The parcel's name.
    pub(crate) parcel: String,
    /// Its weight in grams.
    pub(crate) grams: u32,
}

/// Why a parcel is not sent.
#[derive(Debug, thiserror::Error, Serialize, Deserialize, JsonSchema, Failure)]
pub(crate) enum ParcelError {
    /// It cannot be found.
    #[error("parcel {parcel} is lost")]
    Lost {
        /// The parcel's name.
        parcel: String,
    },
    /// The scale gives no answer.
    #[error("the scale is busy")]
    #[retry]
    Busy,
    /// A call ended without an error of its own.
    #[error(transparent)]
    #[failure(call)]
    Call(CallFailure),
}

/// Sends a parcel.
///
/// It is weighed before.
#[sapwood::function]
pub(crate) async fn send(cx: &mut Cx<ParcelsApp>, parcel: Parcel) -> Result<Receipt, ParcelError> {
    let grams = cx.call(weigh(parcel.name.clone())).await?;
    cx.emit(ParcelSent { parcel: parcel.name.clone() });
    Ok(Receipt { parcel: parcel.name, grams })
}

/// Weighs a parcel.
#[sapwood::function]
pub(crate) async fn weigh(cx: &mut Cx<ParcelsApp>, parcel: String) -> Result<u32, ParcelError> {
    let is_lost = parcel == "lost";
    cx.step("scale", || async { if is_lost { Err(ParcelError::Lost { parcel: parcel.clone() }) } else { Ok(420) } })
        .await
}

/// Keeps a parcel for some hours.
#[sapwood::function]
pub(crate) async fn keep(cx: &mut Cx<ParcelsApp>, hours: u64) -> Result<u64, ParcelError> {
    cx.sleep(Duration::from_secs(hours * 3600)).await;
    Ok(hours)
}

/// Keeps a parcel, by a call.
#[sapwood::function]
pub(crate) async fn store(cx: &mut Cx<ParcelsApp>, hours: u64) -> Result<u64, ParcelError> {
    Ok(cx.call(keep(hours)).await?)
}

/// Scans a parcel, once the scanner is free.
#[sapwood::function]
pub(crate) async fn scan(cx: &mut Cx<ParcelsApp>) -> Result<(), ParcelError> {
    let app = cx.dependencies();
    cx.step("scanner", || async {
        app.probe.pass("scanner").await;
        Ok(())
    })
    .await
}

/// Weighs on a scale that is busy for an hour.
#[sapwood::function]
pub(crate) async fn retry(cx: &mut Cx<ParcelsApp>) -> Result<(), ParcelError> {
    let hour = Duration::from_secs(3600);
    cx.step("busy", || async { Err::<(), _>(ParcelError::Busy) }).retry(RetryPolicy::new(2, hour, hour)).await
}

/// Labels a parcel, as soon as there is a printer.
#[sapwood::function(on_exhausted = "pause", retry(attempts = 1))]
pub(crate) async fn label(cx: &mut Cx<ParcelsApp>, parcel: String) -> Result<String, ParcelError> {
    let app = cx.dependencies();
    let print = || async { if app.probe.is_on("printer") { Ok(()) } else { Err(ParcelError::Busy) } };
    cx.step("printer", print).retry(RetryPolicy::new(1, Duration::from_millis(1), Duration::from_millis(1))).await?;
    Ok(parcel)
}

/// Labels a parcel that is lost then; its label is taken off again.
#[sapwood::function]
pub(crate) async fn mislabel(cx: &mut Cx<ParcelsApp>, parcel: String) -> Result<(), ParcelError> {
    cx.call(label(parcel.clone()).undo(unlabel)).await?;
    Err(ParcelError::Lost { parcel })
}

/// Takes a label off, with a solvent.
#[sapwood::function]
pub(crate) async fn unlabel(cx: &mut Cx<ParcelsApp>, parcel: String) -> Result<(), ParcelError> {
    let app = cx.dependencies();
    cx.step("solvent", || async {
        if app.probe.is_on("solvent") { Ok(()) } else { Err(ParcelError::Lost { parcel: parcel.clone() }) }
    })
    .await
}

/// Who took a parcel over.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Handover {
    /// The courier.
    pub(crate) courier: String,
    /// How many parcels the courier has now.
    pub(crate) load: u8,
}

/// Waits for a courier to take a parcel over.
#[sapwood::function]
pub(crate) async fn hand_over(cx: &mut Cx<ParcelsApp>) -> Result<Handover, ParcelError> {
    Ok(cx.promise("hand over").await?)
}

/// Waits an hour for a courier to take a parcel over.
#[sapwood::function]
pub(crate) async fn hand_over_soon(cx: &mut Cx<ParcelsApp>) -> Result<Handover, ParcelError> {
    Ok(cx.promise_until("hand over", HOUR).await?)
}

/// Hands two parcels over.
#[sapwood::function]
pub(crate) async fn hand_over_two(cx: &mut Cx<ParcelsApp>) -> Result<(), ParcelError> {
    let (one, other) = (cx.call(hand_over()), cx.call(hand_over()));
    tokio::try_join!(one, other)?;
    Ok(())
}

/// Remembers what was sent.
#[sapwood::consumer(group = "archive")]
pub(crate) async fn archive(
    _cx: &mut ConsumerCx<ParcelsApp>,
    _event: Delivered<ParcelSent>,
) -> Result<(), ParcelError> {
    Ok(())
}
