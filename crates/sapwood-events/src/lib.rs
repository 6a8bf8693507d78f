//! Choreography: relay, intake, consumers and the log of a store as a broker.
