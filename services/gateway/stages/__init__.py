"""The stage that the gateway itself works on."""
