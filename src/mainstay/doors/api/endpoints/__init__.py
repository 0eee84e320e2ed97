"""The endpoints, by noun: parse, find and check, call, answer. Rules live in the product."""
