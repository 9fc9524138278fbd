//! However files grew.
