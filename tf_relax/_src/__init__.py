"""The implementation: what it is called from outside, the modules beside this folder say."""
