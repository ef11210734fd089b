"""The only code that knows PyFlink: sources, a sink and shells for keyed logic. Nothing of the domain is here."""
