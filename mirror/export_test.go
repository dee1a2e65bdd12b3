package mirror

// Identify gives a set the ID it has for p, as whoever forges one would.
func (s *Set) Identify(p *Plan) { s.identify(p) }
