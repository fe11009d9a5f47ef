"""How what was measured looks: pages, pictures, cards, records, studies beside each other.

Guarantees that what is claimed is what the records prove. Knows nothing of models; measures nothing.
"""
