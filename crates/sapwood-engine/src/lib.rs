//! Replays, suspends, resumes and retries trees; knows no HTTP, Kafka or SQL.
