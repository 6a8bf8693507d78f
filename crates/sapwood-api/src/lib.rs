//! The state of trees over REST, described by OpenAPI.
