"""Tests of the plugin run pytest inside pytest, with the plugins that matter here."""

# no:faulthandler: the inner run would switch it off at its end, and with it put back the signal handlers of
# before wasmtime set its own; the next trap in a guest would end the process.
QUICK = (
    *("-p", "no:cacheprovider", "-p", "no:hypothesispytest"),
    *("-p", "no:timeout", "-p", "no:faulthandler"),
)
