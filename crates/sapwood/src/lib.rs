//! Durable function trees and domain events: what an application depends on.
